//! The stack machine that pickles are written for, protocols 1 to 5, with limits.

use super::cursor::{Cursor, Step};
use super::pickle::{Id, Object, Pickle, check_call};
use std::collections::HashMap;

/// More than a checkpoint of a recurrent network has, with its optimizer.
const MOST_OBJECTS: usize = 1 << 21;

/// Reads one pickle, and gives what stands behind it.
pub(super) fn read(bytes: &[u8]) -> Result<(Pickle<'_>, &[u8]), String> {
    let mut machine = Machine {
        from: Cursor(bytes),
        objects: Vec::new(),
        copied: 0,
        attributes: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    loop {
        let at = bytes.len() - machine.from.0.len();
        match machine.step() {
            Ok(None) => {}
            Ok(Some(root)) => {
                let pickle = Pickle {
                    objects: machine.objects,
                    root,
                    attributes: machine.attributes,
                };
                return Ok((pickle, machine.from.0));
            }
            Err(problem) => return Err(format!("pickle at byte {at}: {problem}")),
        }
    }
}

struct Machine<'a> {
    from: Cursor<'a>,
    objects: Vec<Object<'a>>,
    /// Items of dictionaries that were copied from lists.
    copied: usize,
    attributes: Vec<(Id, Id)>,
    stack: Vec<Id>,
    /// How high the stack was at each mark.
    marks: Vec<u32>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    fn add(&mut self, object: Object<'a>) -> Step<Id> {
        if self.objects.len().saturating_add(self.copied) >= MOST_OBJECTS {
            return Err(format!("expected at most {MOST_OBJECTS} objects, got more"));
        }
        self.objects.push(object);
        Ok(self.objects.len() as Id - 1)
    }

    fn push(&mut self, object: Object<'a>) -> Step {
        let id = self.add(object)?;
        self.stack.push(id);
        Ok(())
    }

    fn text(&mut self, len: usize) -> Step {
        let bytes = self.from.take(len)?;
        // Python writes lone surrogates too, and Python 2 any bytes.
        self.push(str::from_utf8(bytes).map_or(Object::Bytes(bytes), Object::Text))
    }

    fn raw(&mut self, len: usize) -> Step {
        let bytes = self.from.take(len)?;
        self.push(Object::Bytes(bytes))
    }

    /// A little-endian integer in two's complement.
    fn long(&mut self, len: usize) -> Step {
        let bytes = self.from.take(len)?;
        if bytes.len() > 8 {
            return self.push(Object::Bytes(bytes));
        }
        let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
        let mut all = [if negative { 0xff } else { 0 }; 8];
        for (to, &from) in all.iter_mut().zip(bytes) {
            *to = from;
        }
        self.push(Object::Int(i64::from_le_bytes(all)))
    }

    /// How low the stack may become.
    fn floor(&self) -> usize {
        self.marks.last().map_or(0, |&mark| mark as usize)
    }

    fn pop(&mut self) -> Step<Id> {
        let some = self.stack.len() > self.floor();
        let id = some.then(|| self.stack.pop()).flatten();
        id.ok_or_else(|| "expected something on the stack, got none".into())
    }

    fn top(&self) -> Step<Id> {
        let some = self.stack.len() > self.floor();
        let id = some.then(|| self.stack.last().copied()).flatten();
        id.ok_or_else(|| "expected something on the stack, got none".into())
    }

    /// What was pushed since the last mark.
    fn marked(&mut self) -> Step<Vec<Id>> {
        let mark = self.marks.pop();
        let mark = mark.ok_or("expected a mark on the stack, got none")? as usize;
        // `pop` never goes below a mark.
        Ok(self.stack.drain(mark.min(self.stack.len())..).collect())
    }

    fn tuple(&mut self, len: usize) -> Step {
        let mut ids = Vec::with_capacity(len);
        for _ in 0..len {
            ids.push(self.pop()?);
        }
        ids.reverse();
        self.push(Object::List(ids))
    }

    fn remember(&mut self, index: u32) -> Step {
        if self.memo.len() >= MOST_OBJECTS {
            return Err(format!("expected at most {MOST_OBJECTS} objects, got more"));
        }
        let id = self.top()?;
        self.memo.insert(index, id);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Step {
        let id = self.memo.get(&index);
        let id = id.ok_or_else(|| format!("expected object {index} in the memo, got none"))?;
        self.stack.push(*id);
        Ok(())
    }

    fn pairs(ids: Vec<Id>) -> Step<Vec<(Id, Id)>> {
        if ids.len() % 2 == 1 {
            return Err("expected keys and values, got a key without a value".into());
        }
        let (pairs, _) = ids.as_chunks::<2>();
        Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
    }

    fn append(&mut self, ids: Vec<Id>) -> Step {
        let top = self.top()?;
        match self.objects.get_mut(top as usize) {
            Some(Object::List(list)) => list.extend(ids),
            // A class of lists: it is no state dictionary.
            Some(Object::Made { .. }) => {}
            _ => return Err("expected a list to append to, got something else".into()),
        }
        Ok(())
    }

    fn set(&mut self, pairs: Vec<(Id, Id)>) -> Step {
        let top = self.top()?;
        match self.objects.get_mut(top as usize) {
            Some(Object::Dict(items) | Object::Made { items, .. }) => items.extend(pairs),
            _ => return Err("expected a dictionary to add to, got something else".into()),
        }
        Ok(())
    }

    /// The global that a call goes to, and that it may.
    fn callable(&self, by: Id) -> Step<Option<(&'a str, &'a str)>> {
        match self.objects.get(by as usize) {
            Some(&Object::Global { module, name }) => {
                check_call(module, name)?;
                Ok(Some((module, name)))
            }
            _ => Ok(None),
        }
    }

    /// What a call would give: dictionaries and tagged values as themselves, anything else as a
    /// note of the call.
    fn call(&mut self, by: Id, args: Id) -> Step {
        let given = match self.objects.get(args as usize) {
            Some(Object::List(ids)) => ids.as_slice(),
            _ => return Err("expected a tuple of arguments, got something else".into()),
        };
        let object = match self.callable(by)? {
            Some(("collections", "OrderedDict") | ("builtins" | "__builtin__", "dict")) => {
                let pairs = self.pairs_of(given);
                // The same list could be copied again and again.
                self.copied = self.copied.saturating_add(pairs.len());
                Object::Dict(pairs)
            }
            Some(("torch.jit._pickle", "restore_type_tag")) => {
                let first = given.first().copied();
                self.stack
                    .push(first.ok_or("expected a value to tag, got none")?);
                return Ok(());
            }
            _ => Object::Made {
                by,
                args,
                state: None,
                items: Vec::new(),
            },
        };
        self.push(object)
    }

    /// The items of a dictionary that is made of a list of pairs.
    fn pairs_of(&self, args: &[Id]) -> Vec<(Id, Id)> {
        let list = |id: &Id| match self.objects.get(*id as usize) {
            Some(Object::List(ids)) => ids.as_slice(),
            _ => &[],
        };
        let pairs = args.first().map_or(&[][..], list).iter();
        pairs
            .filter_map(|pair| match list(pair) {
                &[key, value] => Some((key, value)),
                _ => None,
            })
            .collect()
    }

    fn build(&mut self) -> Step {
        let given = self.pop()?;
        let top = self.top()?;
        match self.objects.get_mut(top as usize) {
            Some(Object::Made { state, .. }) => *state = Some(given),
            // Of a dictionary or of a list, such as the versions of modules.
            Some(_) => self.attributes.push((top, given)),
            None => return Err("expected an object to set up, got none".into()),
        }
        Ok(())
    }

    fn global(&mut self, module: &'a str, name: &'a str) -> Step {
        self.push(Object::Global { module, name })
    }

    fn text_on_top(&mut self) -> Step<&'a str> {
        let id = self.pop()?;
        match self.objects.get(id as usize) {
            Some(Object::Text(text)) => Ok(text),
            _ => Err("expected the name of a global, got something else".into()),
        }
    }

    /// One instruction; the last one gives the object that the pickle is.
    fn step(&mut self) -> Step<Option<Id>> {
        let code = self.from.byte()?;
        match code {
            // PROTO
            0x80 => {
                let version = self.from.byte()?;
                if version > 5 {
                    return Err(format!("expected protocol 5 or less, got {version}"));
                }
            }
            // FRAME
            0x95 => {
                self.from.len64()?;
            }
            // STOP
            b'.' => return self.pop().map(Some),
            b'(' => self.marks.push(self.stack.len() as u32),
            // POP, which also takes a mark
            b'0' => {
                if self.stack.len() > self.floor() {
                    self.pop()?;
                } else {
                    self.marked()?;
                }
            }
            // POP_MARK
            b'1' => {
                self.marked()?;
            }
            // DUP
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'N' => self.push(Object::None)?,
            0x88 => self.push(Object::Bool(true))?,
            0x89 => self.push(Object::Bool(false))?,
            // BININT, BININT1, BININT2
            b'J' => {
                let value = i32::from_le_bytes(self.from.bytes()?);
                self.push(Object::Int(value.into()))?;
            }
            b'K' => {
                let value = self.from.byte()?;
                self.push(Object::Int(value.into()))?;
            }
            b'M' => {
                let value = u16::from_le_bytes(self.from.bytes()?);
                self.push(Object::Int(value.into()))?;
            }
            // LONG1, LONG4
            0x8a => {
                let len = self.from.byte()?.into();
                self.long(len)?;
            }
            0x8b => {
                let len = self.from.len32()?;
                self.long(len)?;
            }
            // BINFLOAT
            b'G' => {
                let value = f64::from_be_bytes(self.from.bytes()?);
                self.push(Object::Float(value))?;
            }
            // SHORT_BINUNICODE, BINUNICODE, BINUNICODE8; SHORT_BINSTRING, BINSTRING
            0x8c | b'U' => {
                let len = self.from.byte()?.into();
                self.text(len)?;
            }
            b'X' | b'T' => {
                let len = self.from.len32()?;
                self.text(len)?;
            }
            0x8d => {
                let len = self.from.len64()?;
                self.text(len)?;
            }
            // SHORT_BINBYTES, BINBYTES, BINBYTES8, BYTEARRAY8
            b'C' => {
                let len = self.from.byte()?.into();
                self.raw(len)?;
            }
            b'B' => {
                let len = self.from.len32()?;
                self.raw(len)?;
            }
            0x8e | 0x96 => {
                let len = self.from.len64()?;
                self.raw(len)?;
            }
            // Empty: list, tuple, set, dictionary
            b']' | b')' | 0x8f => self.push(Object::List(Vec::new()))?,
            b'}' => self.push(Object::Dict(Vec::new()))?,
            // Of what is marked: tuple, list, frozenset, dictionary
            b't' | b'l' | 0x91 => {
                let ids = self.marked()?;
                self.push(Object::List(ids))?;
            }
            b'd' => {
                let pairs = Self::pairs(self.marked()?)?;
                self.push(Object::Dict(pairs))?;
            }
            // TUPLE1 to TUPLE3
            0x85..=0x87 => self.tuple(usize::from(code - 0x84))?,
            // APPEND, APPENDS, ADDITEMS
            b'a' => {
                let id = self.pop()?;
                self.append(vec![id])?;
            }
            b'e' | 0x90 => {
                let ids = self.marked()?;
                self.append(ids)?;
            }
            // SETITEM, SETITEMS
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set(vec![(key, value)])?;
            }
            b'u' => {
                let pairs = Self::pairs(self.marked()?)?;
                self.set(pairs)?;
            }
            // PUT, BINPUT, LONG_BINPUT, MEMOIZE
            b'p' => {
                let index = self.from.number()?;
                self.remember(index)?;
            }
            b'q' => {
                let index = self.from.byte()?.into();
                self.remember(index)?;
            }
            b'r' => {
                let index = self.from.u32()?;
                self.remember(index)?;
            }
            0x94 => self.remember(self.memo.len() as u32)?,
            // GET, BINGET, LONG_BINGET
            b'g' => {
                let index = self.from.number()?;
                self.recall(index)?;
            }
            b'h' => {
                let index = self.from.byte()?.into();
                self.recall(index)?;
            }
            b'j' => {
                let index = self.from.u32()?;
                self.recall(index)?;
            }
            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let module = self.from.line()?;
                let name = self.from.line()?;
                self.global(module, name)?;
            }
            0x93 => {
                let name = self.text_on_top()?;
                let module = self.text_on_top()?;
                self.global(module, name)?;
            }
            // REDUCE, NEWOBJ: a call
            b'R' | 0x81 => {
                let args = self.pop()?;
                let by = self.pop()?;
                self.call(by, args)?;
            }
            // NEWOBJ_EX: one with named arguments
            0x92 => {
                self.pop()?;
                let args = self.pop()?;
                let by = self.pop()?;
                self.call(by, args)?;
            }
            b'b' => self.build()?,
            // BINPERSID
            b'Q' => {
                let id = self.pop()?;
                self.push(Object::Persistent(id))?;
            }
            _ => {
                return Err(format!(
                    "expected an instruction that PyTorch writes, got 0x{code:02x}"
                ));
            }
        }
        Ok(None)
    }
}
