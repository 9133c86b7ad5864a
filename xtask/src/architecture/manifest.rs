//! A crate's `Cargo.toml`: its package's name, and the packages that it depends on.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use toml::de::{DeTable, DeValue};

use super::files::{SourceFile, read, source_files};

/// One crate of the repository.
#[derive(Debug)]
pub(super) struct Manifest {
    /// The crate's directory, relative to the repository.
    pub(super) directory: String,
    /// The name of its package.
    pub(super) package: String,
    /// What it needs to be built, without what only its tests need.
    pub(super) dependencies: Vec<Dependency>,
}

/// A package that a crate depends on.
#[derive(Debug)]
pub(super) struct Dependency {
    /// The package's own name, whatever it is called here.
    pub(super) package: String,
    /// The line of the manifest, counted from 1.
    pub(super) line: usize,
}

impl Manifest {
    /// Where it lies, relative to the repository.
    pub(super) fn path(&self) -> String {
        format!("{}/Cargo.toml", self.directory)
    }
}

/// The manifests of every crate below the root, also of those that are no members of the workspace.
pub(super) fn manifests(root: &Path) -> Result<Vec<Manifest>> {
    let renamed = workspace_names(root)?;
    let mut manifests = Vec::new();
    for file in source_files(root, "", &["toml"])? {
        if let Some(directory) = file.path.strip_suffix("/Cargo.toml") {
            let manifest = parse(directory, &file, &renamed)
                .with_context(|| format!("{} cannot be understood", file.path))?;
            manifests.extend(manifest);
        }
    }
    Ok(manifests)
}

/// The packages that `[workspace.dependencies]` gives another name, by that name.
fn workspace_names(root: &Path) -> Result<BTreeMap<String, String>> {
    let text = read(&root.join("Cargo.toml"))?;
    let table = DeTable::parse(&text).map_err(|error| anyhow!("Cargo.toml: {error}"))?;
    let workspace = table
        .get_ref()
        .get("workspace")
        .and_then(|value| value.get_ref().as_table());
    let listed = workspace.and_then(|workspace| section(workspace, "dependencies"));
    let names = listed.into_iter().flat_map(|listed| {
        listed.iter().filter_map(|(name, value)| {
            let package = text_of(value.get_ref(), "package")?;
            Some((name.get_ref().to_string(), package))
        })
    });
    Ok(names.collect())
}

/// None for the manifest of a workspace that is no crate itself.
fn parse(
    directory: &str,
    file: &SourceFile,
    renamed: &BTreeMap<String, String>,
) -> Result<Option<Manifest>> {
    let table = DeTable::parse(&file.text).map_err(|error| anyhow!("{error}"))?;
    let table = table.get_ref();
    let Some(package) = table.get("package") else {
        return Ok(None);
    };
    let package = text_of(package.get_ref(), "name").context("the package has no name")?;
    let mut dependencies = Vec::new();
    for listed in sections(table) {
        for (name, value) in listed {
            let line = file.text[..name.span().start].matches('\n').count() + 1;
            let name: &str = name.get_ref();
            let package =
                text_of(value.get_ref(), "package").or_else(|| renamed.get(name).cloned());
            dependencies.push(Dependency {
                package: package.unwrap_or_else(|| name.to_owned()),
                line,
            });
        }
    }
    Ok(Some(Manifest {
        directory: directory.to_owned(),
        package,
        dependencies,
    }))
}

/// Every table of dependencies that a build needs, on any platform.
fn sections<'a>(table: &'a DeTable<'a>) -> Vec<&'a DeTable<'a>> {
    const NEEDED: [&str; 2] = ["dependencies", "build-dependencies"];
    let targets = section(table, "target")
        .into_iter()
        .flat_map(|targets| targets.values());
    let targets = targets.filter_map(|target| target.get_ref().as_table());
    std::iter::once(table)
        .chain(targets)
        .flat_map(|table| {
            NEEDED
                .into_iter()
                .filter_map(move |name| section(table, name))
        })
        .collect()
}

fn section<'a>(table: &'a DeTable<'a>, name: &str) -> Option<&'a DeTable<'a>> {
    table.get(name)?.get_ref().as_table()
}

fn text_of(value: &DeValue<'_>, name: &str) -> Option<String> {
    let found = value.as_table()?.get(name)?;
    found.get_ref().as_str().map(str::to_owned)
}
