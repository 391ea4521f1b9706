//! A reader of the part of Python's pickle format (protocols 1 to 3) that the published archives use.
//!
//! Nothing is executed. Calls are kept as data, bytes stay in the input, and values refer to each other by index, so
//! that neither a cycle nor a deep nesting can hurt. Every list of values is bounded; an opcode outside the subset is
//! an error that names it.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};

/// The published files need about 150 000; more is not believed.
const MAX_VALUES: usize = 1 << 20;

/// Refers to a [`Value`] of a [`Pickle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ref(usize);

/// One object of a pickle.
#[derive(Debug)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// A string or byte string.
    Bytes(&'a [u8]),
    List(Vec<Ref>),
    Tuple(Vec<Ref>),
    Dict(Vec<(Ref, Ref)>),
    Global(&'a [u8], &'a [u8]),
    /// A call that is not made, and the state that the result would be given.
    Call {
        function: Ref,
        arguments: Ref,
        state: Option<Ref>,
    },
}

/// A parsed pickle.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    values: Vec<Value<'a>>,
    root: Ref,
}

impl<'a> Pickle<'a> {
    /// Parses the whole of `bytes`.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut reader = Reader {
            bytes,
            at: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        loop {
            let at = reader.at;
            let done = reader.step().with_context(|| format!("at byte {at} of the pickle"))?;
            if let Some(root) = done {
                return Ok(Self { values: reader.values, root });
            }
        }
    }

    /// The object that was pickled.
    pub(super) fn root(&self) -> &Value<'a> {
        self.get(self.root)
    }

    /// The object that `reference` means.
    pub(super) fn get(&self, reference: Ref) -> &Value<'a> {
        &self.values[reference.0]
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Ref>,
    marks: Vec<usize>,
    memo: HashMap<u32, Ref>,
}

impl<'a> Reader<'a> {
    /// Carries out one opcode; the root object after the last one.
    fn step(&mut self) -> Result<Option<Ref>> {
        let opcode = self.take(1)?[0];
        match opcode {
            0x80 => {
                let version = self.take(1)?[0];
                ensure!(version <= 3, "protocol {version} is not read, 3 is the highest that is");
            }
            b'.' => return self.pop().map(Some),
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'K' => self.push_int(1, false)?,
            b'M' => self.push_int(2, false)?,
            b'J' => self.push_int(4, true)?,
            0x8a => {
                let length = self.length(1)?;
                ensure!(length <= 8, "an integer of {length} bytes is not read, 8 is the most");
                self.push_int(length, true)?;
            }
            b'U' | b'C' => self.push_bytes(1)?,
            b'T' | b'X' | b'B' => self.push_bytes(4)?,
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Value::Global(module, name))?;
            }
            b'(' => {
                ensure!(self.marks.len() < MAX_VALUES, "more than {MAX_VALUES} marks");
                self.marks.push(self.stack.len());
            }
            b']' => self.push(Value::List(Vec::new()))?,
            b'}' => self.push(Value::Dict(Vec::new()))?,
            b')' => self.push(Value::Tuple(Vec::new()))?,
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(opcode - 0x84))?;
                self.push(Value::Tuple(items))?;
            }
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Tuple(items))?;
            }
            b'l' => {
                let items = self.pop_to_mark()?;
                self.push(Value::List(items))?;
            }
            b'a' => self.pop_many(1).and_then(|items| self.extend_list(items))?,
            b'e' => self.pop_to_mark().and_then(|items| self.extend_list(items))?,
            b's' => self.pop_many(2).and_then(|items| self.extend_dict(&items))?,
            b'u' => self.pop_to_mark().and_then(|items| self.extend_dict(&items))?,
            b'q' => self.memoize(1)?,
            b'r' => self.memoize(4)?,
            b'h' => self.recall(1)?,
            b'j' => self.recall(4)?,
            b'R' => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                self.push(Value::Call { function, arguments, state: None })?;
            }
            b'b' => {
                let new_state = self.pop()?;
                match self.top_mut()? {
                    Value::Call { state, .. } => *state = Some(new_state),
                    _ => bail!("a state is given to something that was not called"),
                }
            }
            _ => bail!("opcode 0x{opcode:02x} is not read"),
        }
        Ok(None)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        ensure!(count <= rest.len(), "{count} bytes are announced, {} are left", rest.len());
        self.at += count;
        Ok(&rest[..count])
    }

    /// An unsigned length of `width` bytes, little endian.
    fn length(&mut self, width: usize) -> Result<usize> {
        let bytes = self.take(width)?;
        Ok(bytes.iter().rev().fold(0, |length, &byte| length << 8 | usize::from(byte)))
    }

    fn line(&mut self) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().take(256).position(|&byte| byte == b'\n').context("a name has no end")?;
        self.at += end + 1;
        Ok(&rest[..end])
    }

    fn push(&mut self, value: Value<'a>) -> Result<()> {
        ensure!(self.values.len() < MAX_VALUES, "more than {MAX_VALUES} values");
        self.values.push(value);
        self.push_reference(Ref(self.values.len() - 1))
    }

    fn push_reference(&mut self, reference: Ref) -> Result<()> {
        ensure!(self.stack.len() < MAX_VALUES, "more than {MAX_VALUES} values on the stack");
        self.stack.push(reference);
        Ok(())
    }

    fn push_int(&mut self, width: usize, signed: bool) -> Result<()> {
        let bytes = self.take(width)?;
        let negative = signed && bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..width].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(wide)))
    }

    fn push_bytes(&mut self, width: usize) -> Result<()> {
        let length = self.length(width)?;
        let bytes = self.take(length)?;
        self.push(Value::Bytes(bytes))
    }

    fn pop(&mut self) -> Result<Ref> {
        let floor = self.marks.last().copied().unwrap_or(0);
        ensure!(self.stack.len() > floor, "the stack is empty");
        self.stack.pop().context("the stack is empty")
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Ref>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        ensure!(self.stack.len() >= floor + count, "the stack has fewer than {count} values");
        Ok(self.stack.split_off(self.stack.len() - count))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Ref>> {
        let mark = self.marks.pop().context("no mark was set")?;
        Ok(self.stack.split_off(mark))
    }

    fn top_mut(&mut self) -> Result<&mut Value<'a>> {
        let top = *self.stack.last().context("the stack is empty")?;
        Ok(&mut self.values[top.0])
    }

    fn extend_list(&mut self, items: Vec<Ref>) -> Result<()> {
        match self.top_mut()? {
            Value::List(list) => list.extend(items),
            _ => bail!("items are appended to something that is not a list"),
        }
        Ok(())
    }

    fn extend_dict(&mut self, items: &[Ref]) -> Result<()> {
        ensure!(items.len().is_multiple_of(2), "a key has no value");
        match self.top_mut()? {
            Value::Dict(dict) => dict.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1]))),
            _ => bail!("an entry is set in something that is not a dictionary"),
        }
        Ok(())
    }

    fn memoize(&mut self, width: usize) -> Result<()> {
        let key = self.length(width)? as u32;
        let top = *self.stack.last().context("the stack is empty")?;
        ensure!(self.memo.len() < MAX_VALUES, "more than {MAX_VALUES} memo entries");
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, width: usize) -> Result<()> {
        let key = self.length(width)? as u32;
        let reference = *self.memo.get(&key).with_context(|| format!("memo entry {key} was never set"))?;
        self.push_reference(reference)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `{"a": [1, -1, 300], "b": None}`.
    const GOOD: &[u8] = b"\x80\x02}q\x00(U\x01a]q\x01(K\x01J\xff\xff\xff\xffM\x2c\x01eU\x01bNu.";

    #[test]
    fn reads_a_dictionary() {
        let pickle = Pickle::parse(GOOD).unwrap();
        let Value::Dict(entries) = pickle.root() else { panic!("{pickle:?}") };
        let Value::List(items) = pickle.get(entries[0].1) else { panic!("{pickle:?}") };
        let items: Vec<_> = items.iter().map(|&item| pickle.get(item)).collect();
        assert!(matches!(items[..], [Value::Int(1), Value::Int(-1), Value::Int(300)]));
    }

    #[test]
    fn broken_input_is_an_error_and_never_a_panic() {
        for cut in 0..GOOD.len() {
            assert!(Pickle::parse(&GOOD[..cut]).is_err(), "cut at {cut}");
        }
        for place in 0..GOOD.len() {
            for value in 0..=255u8 {
                let mut bytes = GOOD.to_vec();
                bytes[place] = value;
                let _ = Pickle::parse(&bytes);
            }
        }
        let announced = b"\x80\x02B\xff\xff\xff\xff.";
        assert!(
            format!("{:#}", Pickle::parse(announced).unwrap_err()).contains("4294967295 bytes are announced")
        );
        assert!(Pickle::parse(&vec![b'N'; MAX_VALUES + 2]).is_err());
    }
}
