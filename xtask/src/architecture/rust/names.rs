//! What an item defines, imports and names.
//!
//! `syn` leaves the arguments of a macro as tokens, so paths in there are read from the tokens.

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItemFn, Item, ItemUse, Macro, Path, UseTree, VisRestricted};

use super::module::{Module, Named, is_for_tests};

/// Adds an item of a module to what is known about the module.
pub(super) fn collect(item: &Item, module: &mut Module) {
    if is_for_tests(attributes(item)) {
        return;
    }
    if let Item::Use(item) = item
        && item.leading_colon.is_none()
    {
        for leaf in leaves(&item.tree) {
            match leaf.binds {
                Some(name) => drop(module.bound.insert(name, leaf.path)),
                None => module.globs.push(leaf.path),
            }
        }
    }
    module.defined.extend(defined(item));
    Names {
        named: &mut module.named,
    }
    .visit_item(item);
}

/// The name that an item defines.
fn defined(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::TraitAlias(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// One path of a `use`, and the name that it binds; none for `*`.
struct Leaf {
    path: Vec<String>,
    binds: Option<String>,
    line: usize,
}

fn leaves(tree: &UseTree) -> Vec<Leaf> {
    fn walk(tree: &UseTree, before: &[String], leaves: &mut Vec<Leaf>) {
        let with = |name: String| [before, &[name]].concat();
        match tree {
            UseTree::Path(path) => walk(&path.tree, &with(path.ident.to_string()), leaves),
            UseTree::Group(group) => group
                .items
                .iter()
                .for_each(|tree| walk(tree, before, leaves)),
            UseTree::Glob(glob) => leaves.push(Leaf {
                path: before.to_vec(),
                binds: None,
                line: glob.star_token.spans[0].start().line,
            }),
            UseTree::Name(name) => leaves.push(leaf(before, &name.ident, &name.ident)),
            UseTree::Rename(rename) => leaves.push(leaf(before, &rename.ident, &rename.rename)),
        }
    }
    let mut found = Vec::new();
    walk(tree, &[], &mut found);
    found
}

/// `use a::{self}` binds `a`.
fn leaf(before: &[String], name: &syn::Ident, binds: &syn::Ident) -> Leaf {
    let path = if name == "self" && !before.is_empty() {
        before.to_vec()
    } else {
        [before, &[name.to_string()]].concat()
    };
    let binds = if binds == "self" {
        path.last().cloned()
    } else {
        Some(binds.to_string())
    };
    Leaf {
        path,
        binds,
        line: name.span().start().line,
    }
}

/// Collects every path below an item.
struct Names<'a> {
    named: &'a mut Vec<Named>,
}

impl<'ast> Visit<'ast> for Names<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        if !is_for_tests(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if item.leading_colon.is_none() {
            let named = leaves(&item.tree).into_iter().map(|leaf| Named {
                path: leaf.path,
                line: leaf.line,
            });
            self.named.extend(named);
        }
    }

    /// `pub(in path)` says who may use an item, and uses nothing.
    fn visit_vis_restricted(&mut self, _: &'ast VisRestricted) {}

    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_path(&mut self, path: &'ast Path) {
        if path.leading_colon.is_none()
            && let Some(first) = path.segments.first()
        {
            self.named.push(Named {
                line: first.ident.span().start().line,
                path: path
                    .segments
                    .iter()
                    .map(|segment| segment.ident.to_string())
                    .collect(),
            });
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        visit::visit_macro(self, call);
        paths_in(call.tokens.clone(), self.named);
    }
}

/// Every run of names with `::` between them; a name alone could be anything.
fn paths_in(tokens: TokenStream, named: &mut Vec<Named>) {
    let mut run: Option<Named> = None;
    let mut colons = 0;
    for token in tokens {
        match token {
            TokenTree::Ident(name) => {
                let continues = run.as_mut().filter(|_| colons == 2);
                match continues {
                    Some(run) => run.path.push(name.to_string()),
                    None if colons == 2 => {}
                    None => {
                        named.extend(run.take().filter(|run| run.path.len() > 1));
                        run = Some(Named {
                            line: name.span().start().line,
                            path: vec![name.to_string()],
                        });
                    }
                }
                colons = 0;
            }
            TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
            other => {
                named.extend(run.take().filter(|run| run.path.len() > 1));
                colons = 0;
                if let TokenTree::Group(group) = other {
                    paths_in(group.stream(), named);
                }
            }
        }
    }
    named.extend(run.filter(|run| run.path.len() > 1));
}
