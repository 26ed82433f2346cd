//! The bytes of a pickle, from the first to the last.

/// What is still to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

/// What an instruction gives, or what is wrong with it.
pub(super) type Step<T = ()> = Result<T, String>;

impl<'a> Cursor<'a> {
    pub(super) fn take(&mut self, len: usize) -> Step<&'a [u8]> {
        match self.0.split_at_checked(len) {
            Some((taken, rest)) => {
                self.0 = rest;
                Ok(taken)
            }
            None => {
                let left = self.0.len();
                Err(format!("expected another {len} bytes, got {left}"))
            }
        }
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> Step<[u8; N]> {
        let taken = self.take(N)?;
        Ok(taken.first_chunk().copied().unwrap_or([0; N]))
    }

    pub(super) fn byte(&mut self) -> Step<u8> {
        let [byte] = self.bytes()?;
        Ok(byte)
    }

    pub(super) fn u32(&mut self) -> Step<u32> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    pub(super) fn len32(&mut self) -> Step<usize> {
        Ok(self.u32()? as usize)
    }

    pub(super) fn len64(&mut self) -> Step<usize> {
        let len = u64::from_le_bytes(self.bytes()?);
        usize::try_from(len).map_err(|_| format!("expected a length, got {len}"))
    }

    pub(super) fn line(&mut self) -> Step<&'a str> {
        let end = self.0.iter().position(|&byte| byte == b'\n');
        let end = end.ok_or("expected a line, got no end of it")?;
        let line = self.take(end)?;
        self.take(1)?;
        str::from_utf8(line).map_err(|_| "expected a line of UTF-8, got other bytes".into())
    }

    pub(super) fn number(&mut self) -> Step<u32> {
        let line = self.line()?;
        let number = line.parse();
        number.map_err(|_| format!("expected a number, got {line}"))
    }
}
