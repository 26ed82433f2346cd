//! What a pickle describes, as plain data. Nothing that it names is looked up or called: a call is
//! an object that says what would have been called, and with what.

use super::state::clipped;

/// Of an object, in [`Pickle::objects`].
pub(super) type Id = u32;

/// A value in a pickle. Texts stay where they are in the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Object<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a str),
    /// Bytes, and integers of more than eight of them.
    Bytes(&'a [u8]),
    /// A tuple, a list or a set.
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A class or a function.
    Global {
        module: &'a str,
        name: &'a str,
    },
    /// What the pickle's owner knows by this: a storage.
    Persistent(Id),
    /// What a class or function would give.
    Made {
        by: Id,
        args: Id,
        state: Option<Id>,
        items: Vec<(Id, Id)>,
    },
}

/// A pickle that was read.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    pub(super) objects: Vec<Object<'a>>,
    pub(super) root: Id,
    /// What dictionaries and lists have beside their items, each with its owner.
    pub(super) attributes: Vec<(Id, Id)>,
}

impl<'a> Pickle<'a> {
    pub(super) fn get(&self, id: Id) -> &Object<'a> {
        self.objects.get(id as usize).unwrap_or(&Object::None)
    }

    pub(super) fn text(&self, id: Id) -> Option<&'a str> {
        match self.get(id) {
            Object::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn length(&self, id: Id) -> Option<usize> {
        match self.get(id) {
            Object::Int(value) => usize::try_from(*value).ok(),
            _ => None,
        }
    }

    pub(super) fn list(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Object::List(ids) => Some(ids),
            _ => None,
        }
    }

    /// The items of a dictionary, or of a class of them.
    pub(super) fn items(&self, id: Id) -> &[(Id, Id)] {
        match self.get(id) {
            Object::Dict(items) | Object::Made { items, .. } => items,
            _ => &[],
        }
    }

    /// Module and name of a class or function.
    pub(super) fn global(&self, id: Id) -> Option<(&'a str, &'a str)> {
        match self.get(id) {
            Object::Global { module, name } => Some((module, name)),
            _ => None,
        }
    }

    /// What an object is made of.
    pub(super) fn parts(&self, id: Id) -> Vec<Id> {
        let pairs = |pairs: &[(Id, Id)]| -> Vec<Id> {
            pairs
                .iter()
                .flat_map(|&(key, value)| [key, value])
                .collect()
        };
        match self.get(id) {
            Object::List(ids) => ids.clone(),
            Object::Dict(items) => pairs(items),
            Object::Persistent(id) => vec![*id],
            Object::Made {
                by,
                args,
                state,
                items,
            } => {
                let mut parts = pairs(items);
                parts.extend([*by, *args]);
                parts.extend(*state);
                parts
            }
            _ => Vec::new(),
        }
    }
}

/// Refuses functions that no model has and that are there to run programs.
pub(super) fn check_call(module: &str, name: &str) -> Result<(), String> {
    const MODULES: [&str; 15] = [
        "os",
        "posix",
        "nt",
        "subprocess",
        "sys",
        "pty",
        "socket",
        "shutil",
        "runpy",
        "importlib",
        "ctypes",
        "webbrowser",
        "pickle",
        "marshal",
        "pdb",
    ];
    const BUILTINS: [&str; 8] = [
        "eval",
        "exec",
        "execfile",
        "compile",
        "open",
        "__import__",
        "input",
        "breakpoint",
    ];
    let first = module.split('.').next().unwrap_or(module);
    let builtin = matches!(module, "builtins" | "__builtin__");
    if MODULES.contains(&first) || (builtin && BUILTINS.contains(&name)) {
        return Err(format!(
            "expected weights, got a call of {}.{}, which runs programs where a file is unpickled",
            clipped(module),
            clipped(name)
        ));
    }
    Ok(())
}
