//! FlatBuffers, read in place: tables, vectors and texts, with every offset checked.

/// An offset or a length leads out of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("expected a TensorFlow Lite model, got an offset that leads out of the file")
    }
}

/// Longer than any name.
const LONGEST: usize = 1 << 16;

type Result<T> = std::result::Result<T, Broken>;

/// The bytes of a place, and as many as a number has.
fn bytes<const N: usize>(all: &[u8], at: usize) -> Result<[u8; N]> {
    let rest = all.get(at..).ok_or(Broken)?;
    rest.first_chunk().copied().ok_or(Broken)
}

/// Where an offset at a place leads to.
fn follow(all: &[u8], at: usize) -> Result<usize> {
    let offset = u32::from_le_bytes(bytes(all, at)?) as usize;
    at.checked_add(offset)
        .filter(|&to| to < all.len())
        .ok_or(Broken)
}

/// A table: where its fields are is at another place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table<'a> {
    all: &'a [u8],
    at: usize,
    /// For each field, its distance from the table, or 0.
    fields: &'a [u8],
}

impl<'a> Table<'a> {
    /// The table to which the file's first number leads.
    pub(super) fn root(all: &'a [u8]) -> Result<Self> {
        Self::new(all, follow(all, 0)?)
    }

    fn new(all: &'a [u8], at: usize) -> Result<Self> {
        let back = i32::from_le_bytes(bytes(all, at)?);
        let start = i64::try_from(at).map_err(|_| Broken)? - i64::from(back);
        let start = usize::try_from(start).map_err(|_| Broken)?;
        let len = usize::from(u16::from_le_bytes(bytes(all, start)?));
        let table = all.get(start..).and_then(|rest| rest.get(4..len));
        Ok(Self {
            all,
            at,
            fields: table.ok_or(Broken)?,
        })
    }

    fn place(&self, field: usize) -> Option<usize> {
        let (fields, _) = self.fields.as_chunks();
        let distance = u16::from_le_bytes(*fields.get(field)?);
        (distance != 0).then(|| self.at.saturating_add(distance.into()))
    }

    fn number<const N: usize, T>(&self, field: usize, of: fn([u8; N]) -> T) -> Result<Option<T>> {
        let place = self.place(field);
        place.map(|at| bytes(self.all, at).map(of)).transpose()
    }

    /// A number of one byte; 0 where there is none, as for all of these.
    pub(super) fn u8(&self, field: usize) -> Result<u8> {
        Ok(self.number(field, u8::from_le_bytes)?.unwrap_or(0))
    }

    pub(super) fn i32(&self, field: usize) -> Result<i32> {
        Ok(self.number(field, i32::from_le_bytes)?.unwrap_or(0))
    }

    pub(super) fn u32(&self, field: usize) -> Result<usize> {
        Ok(self.number(field, u32::from_le_bytes)?.unwrap_or(0) as usize)
    }

    pub(super) fn f32(&self, field: usize) -> Result<f32> {
        Ok(self.number(field, f32::from_le_bytes)?.unwrap_or(0.0))
    }

    pub(super) fn has(&self, field: usize) -> bool {
        self.place(field).is_some()
    }

    pub(super) fn table(&self, field: usize) -> Result<Option<Self>> {
        let Some(place) = self.place(field) else {
            return Ok(None);
        };
        Self::new(self.all, follow(self.all, place)?).map(Some)
    }

    /// Elements of a width: none where there is no vector.
    fn vector(&self, field: usize, width: usize) -> Result<(usize, &'a [u8])> {
        let Some(place) = self.place(field) else {
            return Ok((0, &[]));
        };
        let at = follow(self.all, place)?;
        let count = u32::from_le_bytes(bytes(self.all, at)?) as usize;
        let len = count.checked_mul(width).ok_or(Broken)?;
        let elements = self.all.get(at..).and_then(|rest| rest.get(4..));
        let elements = elements.and_then(|rest| rest.get(..len)).ok_or(Broken)?;
        Ok((at + 4, elements))
    }

    pub(super) fn bytes(&self, field: usize) -> Result<&'a [u8]> {
        Ok(self.vector(field, 1)?.1)
    }

    pub(super) fn text(&self, field: usize) -> Result<&'a str> {
        let text = self.bytes(field)?;
        // Many tables can have the same text.
        if text.len() > LONGEST {
            return Err(Broken);
        }
        str::from_utf8(text).map_err(|_| Broken)
    }

    pub(super) fn i32s(&self, field: usize) -> Result<Numbers<'a, i32, 4>> {
        Ok(Numbers(self.vector(field, 4)?.1, i32::from_le_bytes))
    }

    pub(super) fn i64s(&self, field: usize) -> Result<Numbers<'a, i64, 8>> {
        Ok(Numbers(self.vector(field, 8)?.1, i64::from_le_bytes))
    }

    pub(super) fn f32s(&self, field: usize) -> Result<Numbers<'a, f32, 4>> {
        Ok(Numbers(self.vector(field, 4)?.1, f32::from_le_bytes))
    }

    pub(super) fn tables(
        &self,
        field: usize,
    ) -> Result<impl ExactSizeIterator<Item = Result<Self>>> {
        let (start, elements) = self.vector(field, 4)?;
        let all = self.all;
        Ok((0..elements.len() / 4).map(move |k| Self::new(all, follow(all, start + 4 * k)?)))
    }
}

/// Numbers where they lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers<'a, T, const N: usize>(&'a [u8], fn([u8; N]) -> T);

impl<T, const N: usize> Default for Numbers<'_, T, N>
where
    T: Default,
{
    fn default() -> Self {
        Self(&[], |_| T::default())
    }
}

impl<'a, T, const N: usize> Numbers<'a, T, N> {
    pub(super) fn len(&self) -> usize {
        self.0.len() / N
    }

    pub(super) fn get(&self, place: usize) -> Option<T> {
        self.0
            .as_chunks()
            .0
            .get(place)
            .map(|&bytes| (self.1)(bytes))
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = T> + use<'a, T, N> {
        let of = self.1;
        self.0.as_chunks().0.iter().map(move |&bytes| of(bytes))
    }
}
