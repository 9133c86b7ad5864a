//! From a path to the file that defines what it names.
//!
//! A path begins with `crate`, `super` or `self`, or with a name that the module knows: a child, an item or
//! a `use`. `use` lines on the way are followed, wherever they lie, so that a re-export stands for its
//! original. A path whose first name the module does not know leads into another crate.

use std::collections::BTreeSet;

use super::super::import::{Import, ModulePath};
use super::module::Module;
use super::modules::Modules;

/// The imports of every module, in order, without those that stay in their own file.
pub(super) fn imports(modules: &Modules) -> Vec<Import> {
    let mut imports = BTreeSet::new();
    for (path, module) in modules.iter() {
        for named in &module.named {
            let found = Search::new(modules).resolve(path, &named.path);
            let target = found.and_then(|found| modules.get(&found));
            if let Some(target) = target.filter(|target| target.file_module != module.file_module) {
                imports.insert(Import {
                    from: module.file_module.clone(),
                    to: target.file_module.clone(),
                    file: module.file.clone(),
                    line: named.line,
                });
            }
        }
    }
    imports.into_iter().collect()
}

/// One search, which follows no `use` twice, since they may lead in a circle.
struct Search<'a> {
    modules: &'a Modules,
    followed: BTreeSet<(ModulePath, String)>,
}

impl<'a> Search<'a> {
    fn new(modules: &'a Modules) -> Self {
        Self {
            modules,
            followed: BTreeSet::new(),
        }
    }

    /// The module that defines what a path means in a module; none when it is in another crate.
    fn resolve(&mut self, module: &[String], path: &[String]) -> Option<ModulePath> {
        let (first, rest) = path.split_first()?;
        let start = match &**first {
            "crate" => &[],
            "self" => module,
            "super" => module.split_last()?.1,
            _ => return self.find(module, path),
        };
        match rest.first().map(String::as_str) {
            Some("super") => self.resolve(start, rest),
            _ => self.find(start, rest).or_else(|| Some(start.to_vec())),
        }
    }

    /// Goes down from a module. None when it does not know the first name.
    fn find(&mut self, module: &[String], path: &[String]) -> Option<ModulePath> {
        let Some((name, rest)) = path.split_first() else {
            return Some(module.to_vec());
        };
        let here: &Module = self.modules.get(module)?;
        let child = [module, std::slice::from_ref(name)].concat();
        let is_item = here.defined.contains(name) || here.bound.contains_key(name);
        if self.modules.get(&child).is_some() && !(rest.is_empty() && is_item) {
            return self.find(&child, rest).or(Some(child));
        }
        if here.defined.contains(name) {
            return Some(module.to_vec());
        }
        if let Some(target) = here.bound.get(name) {
            let followed = self.follow(module, name);
            let original = followed.then(|| self.resolve(module, &[target, rest].concat()));
            return original.flatten().or_else(|| Some(module.to_vec()));
        }
        here.globs.iter().find_map(|glob| {
            let followed = self.follow(module, &format!("{}::*", glob.join("::")));
            let target = followed.then(|| self.resolve(module, glob))??;
            self.find(&target, path)
        })
    }

    fn follow(&mut self, module: &[String], name: &str) -> bool {
        self.followed.insert((module.to_vec(), name.to_owned()))
    }
}
