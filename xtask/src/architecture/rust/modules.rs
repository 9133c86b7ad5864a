//! The modules of a crate, read from its files along the `mod` lines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use syn::{Item, ItemMod};

use super::super::files::{read, relative};
use super::super::import::ModulePath;
use super::module::{Module, is_for_tests};
use super::names;

/// All modules of one library or program, by their way from its root.
#[derive(Debug, Default)]
pub(super) struct Modules {
    modules: BTreeMap<ModulePath, Module>,
}

impl Modules {
    /// Reads the modules of the program or library that begins in a file.
    pub(super) fn load(root: &Path, file: &Path) -> Result<Self> {
        let mut modules = Self::default();
        let folder = file.parent().unwrap_or(root);
        modules.load_file(root, file, folder, &Vec::new())?;
        Ok(modules)
    }

    pub(super) fn get(&self, path: &[String]) -> Option<&Module> {
        self.modules.get(path)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ModulePath, &Module)> {
        self.modules.iter()
    }

    /// The modules that are files, with the file.
    pub(super) fn files(&self) -> impl Iterator<Item = (&ModulePath, &str)> {
        let files = self
            .modules
            .iter()
            .filter(|(path, module)| **path == module.file_module);
        files.map(|(path, module)| (path, &*module.file))
    }

    /// `folder` is where the files of the module's children lie.
    fn load_file(
        &mut self,
        root: &Path,
        file: &Path,
        folder: &Path,
        path: &ModulePath,
    ) -> Result<()> {
        let name = relative(root, file);
        let parsed = syn::parse_file(&read(file)?).with_context(|| format!("{name} is no Rust"))?;
        let module = Module {
            file: name,
            file_module: path.clone(),
            ..Module::default()
        };
        self.load_items(root, folder, path, module, parsed.items)
    }

    fn load_items(
        &mut self,
        root: &Path,
        folder: &Path,
        path: &ModulePath,
        mut module: Module,
        items: Vec<Item>,
    ) -> Result<()> {
        for item in items {
            match item {
                Item::Mod(child) if is_for_tests(&child.attrs) || child.ident == "tests" => {}
                Item::Mod(child) => self.load_child(root, folder, path, &module, child)?,
                other => names::collect(&other, &mut module),
            }
        }
        self.modules.insert(path.clone(), module);
        Ok(())
    }

    fn load_child(
        &mut self,
        root: &Path,
        folder: &Path,
        path: &ModulePath,
        parent: &Module,
        child: ItemMod,
    ) -> Result<()> {
        let name = child.ident.to_string();
        let child_path = [path.as_slice(), std::slice::from_ref(&name)].concat();
        let folder = folder.join(&name);
        match child.content {
            Some((_, items)) => {
                let module = Module {
                    file: parent.file.clone(),
                    file_module: parent.file_module.clone(),
                    ..Module::default()
                };
                self.load_items(root, &folder, &child_path, module, items)
            }
            None => {
                let file = file_of(&folder)
                    .with_context(|| format!("{}: the module {name} has no file", parent.file))?;
                self.load_file(root, &file, &folder, &child_path)
            }
        }
    }
}

/// `folder.rs` or `folder/mod.rs`.
fn file_of(folder: &Path) -> Option<PathBuf> {
    let files = [folder.with_extension("rs"), folder.join("mod.rs")];
    files.into_iter().find(|file| file.is_file())
}
