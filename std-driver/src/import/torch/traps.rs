//! Pickles and archives that were made to do harm, and such that are merely wrong.

use super::tests::{attempt, random};
use super::{is, read};
use crate::Error;
use crate::import::{Found, Options, Source};
use ::zip::write::{SimpleFileOptions, ZipWriter};
use ::zip::{CompressionMethod, ZipArchive};
use std::io::{Cursor, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

fn text(text: &str) -> Vec<u8> {
    let mut bytes = vec![b'X'];
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.bytes());
    bytes
}

fn int(value: i32) -> Vec<u8> {
    let mut bytes = vec![b'J'];
    bytes.extend(value.to_le_bytes());
    bytes
}

fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

fn tuple(parts: &[Vec<u8>]) -> Vec<u8> {
    [b"(".to_vec(), parts.concat(), b"t".to_vec()].concat()
}

fn dict(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let items = items
        .iter()
        .map(|(key, value)| [text(key), value.clone()].concat());
    [
        b"}(".to_vec(),
        items.collect::<Vec<_>>().concat(),
        b"u".to_vec(),
    ]
    .concat()
}

fn tensor(key: &str, length: i32, offset: i32, sizes: &[i32], strides: &[i32]) -> Vec<u8> {
    let ints = |values: &[i32]| tuple(&values.iter().map(|&v| int(v)).collect::<Vec<_>>());
    let storage = tuple(&[
        text("storage"),
        global("torch", "FloatStorage"),
        text(key),
        text("cpu"),
        int(length),
    ]);
    let args = [
        [storage, b"Q".to_vec()].concat(),
        int(offset),
        ints(sizes),
        ints(strides),
        vec![0x89],
        b"N".to_vec(),
    ];
    let function = global("torch._utils", "_rebuild_tensor_v2");
    [function, tuple(&args), b"R".to_vec()].concat()
}

/// An LSTM of one input and one unit, of a storage of eight numbers.
fn lstm() -> Vec<u8> {
    dict(&[
        ("weight_ih_l0", tensor("0", 8, 0, &[4, 1], &[1, 1])),
        ("weight_hh_l0", tensor("0", 8, 4, &[4, 1], &[1, 1])),
    ])
}

/// A file from before PyTorch 1.6, with a storage of so many numbers.
fn legacy(object: &[u8], numbers: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0x80, 2, 0x8a, 10];
    bytes.extend(0x1950_a86a_20f9_469c_fc6cu128.to_le_bytes()[..10].iter());
    bytes.extend(b".\x80\x02M\xe9\x03.\x80\x02}.\x80\x02");
    bytes.extend(object);
    bytes.extend(b".\x80\x02](");
    bytes.extend(text("0"));
    bytes.extend(b"e.");
    bytes.extend((numbers.len() as u64).to_le_bytes());
    bytes.extend(numbers.iter().flat_map(|v| v.to_le_bytes()));
    bytes
}

/// An archive of these entries.
fn archive(entries: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        let options = SimpleFileOptions::default().compression_method(method);
        writer.start_file(*name, options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn open(bytes: Vec<u8>, part: Option<&str>) -> Result<Found, Error> {
    let source = Source::from_bytes(Path::new("trap"), bytes);
    assert!(is(&source));
    let options = Options {
        part: part.map(Into::into),
        ..Options::default()
    };
    read(&source, &options)
}

const NUMBERS: [f32; 8] = [0.5; 8];

/// What a file with this object in it is refused with.
#[track_caller]
fn refused(object: &[u8], problem: &str) {
    let error = open(legacy(object, &NUMBERS), None)
        .unwrap_err()
        .to_string();
    assert!(error.contains(problem), "{error}");
}

#[test]
fn plain() {
    let found = open(legacy(&lstm(), &NUMBERS), None).unwrap();
    assert_eq!(found.layers.len(), 1);
    // The first pickle in another protocol.
    let mut fourth = b"\x80\x04\x95\x0d\0\0\0\0\0\0\0".to_vec();
    fourth.extend(&legacy(&lstm(), &NUMBERS)[2..]);
    assert!(open(fourth, None).is_ok());
    let pickle = [b"\x80\x02".to_vec(), lstm(), b".".to_vec()].concat();
    let storage: Vec<u8> = NUMBERS.iter().flat_map(|v| v.to_le_bytes()).collect();
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let entries = [("a/data.pkl", &pickle[..]), ("a/data/0", &storage)];
        let found = open(archive(&entries, method), None).unwrap();
        assert_eq!(found.layers[0].name, "l0");
    }
}

#[test]
fn calls_are_not_made() {
    let call = |module: &str, name: &str| {
        [global(module, name), tuple(&[text("true")]), b"R".to_vec()].concat()
    };
    let with = |value: Vec<u8>| {
        let weights = [
            ("weight_ih_l0", tensor("0", 8, 0, &[4, 1], &[1, 1])),
            ("weight_hh_l0", tensor("0", 8, 4, &[4, 1], &[1, 1])),
            ("note", value),
        ];
        dict(&weights)
    };
    for (module, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("subprocess", "Popen"),
        ("builtins", "eval"),
        ("__builtin__", "exec"),
        ("importlib.util", "find_spec"),
    ] {
        let problem =
            format!("expected weights, got a call of {module}.{name}, which runs programs");
        refused(&call(module, name), &problem);
        refused(&with(call(module, name)), &problem);
    }
    // The name on the stack, as protocol 4 has it.
    let short = |text: &str| [vec![0x8c, text.len() as u8], text.bytes().collect()].concat();
    let function = [short("os"), short("system"), vec![0x93]].concat();
    let object = [function, tuple(&[text("true")]), b"R".to_vec()].concat();
    refused(&object, "got a call of os.system");
    // What is not known to be harmful is not called either.
    let found = open(
        legacy(&with(call("some.module", "function")), &NUMBERS),
        None,
    )
    .unwrap();
    assert_eq!(found.layers.len(), 1);
    assert!(
        found.notes[0].contains("left out: note"),
        "{:?}",
        found.notes
    );
    // Instructions that no such file has.
    for code in [b'i', b'o', b'P', b'I', 0x82, 0x97, 0] {
        refused(
            &[code],
            "expected an instruction that PyTorch writes, got 0x",
        );
    }
}

#[test]
fn bombs() {
    let start = Instant::now();
    // Every list holds the one before it twice.
    let mut object = vec![b']', b'q', 0];
    for k in 1..200u8 {
        object.extend([b']', b'q', k, b'(', b'h', k - 1, b'h', k - 1, b'e']);
    }
    refused(&object, "expected");
    // The same with a tensor at the bottom, and dictionaries.
    let mut object = [lstm(), b"q\x00".to_vec()].concat();
    for k in 1..60u8 {
        let key = |name: &str| [text(name), vec![b'h', k - 1]].concat();
        object.extend(b"}(");
        object.extend([key("a"), key("b"), b"uq".to_vec(), vec![k]].concat());
    }
    assert!(open(legacy(&object, &NUMBERS), None).is_ok());
    // Lists in lists.
    let mut object = vec![b']'; 500_000];
    object.extend(vec![b'a'; 499_999]);
    refused(&object, "expected");
    // Dictionaries in dictionaries.
    let mut object = Vec::new();
    for _ in 0..100_000 {
        object.extend(b"}");
        object.extend(text("state_dict"));
    }
    object.extend(lstm());
    object.extend(vec![b's'; 100_000]);
    refused(
        &object,
        "expected at most 64 dictionaries in each other, got more",
    );
    // Two of each, so that no one of them is the only one.
    let mut object = Vec::new();
    for _ in 0..1000 {
        object.extend([b"}".to_vec(), text("b"), lstm(), b"s".to_vec(), text("a")].concat());
    }
    object.extend(lstm());
    object.extend(vec![b's'; 1000]);
    let error = open(legacy(&object, &NUMBERS), Some("a, b")).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("in each other, got more"), "{error}");
    // More objects than anything has.
    refused(
        &vec![b'N'; (1 << 21) + 1],
        "expected at most 2097152 objects, got more",
    );
    // A list of pairs that becomes a dictionary over and over.
    let mut object = b"](".to_vec();
    for _ in 0..10_000 {
        object.extend(b"NN\x86");
    }
    object.extend(b"e\x85q\x00");
    for _ in 0..1000 {
        object.extend(global("collections", "OrderedDict"));
        object.extend(b"h\x00R");
    }
    refused(&object, "expected at most 2097152 objects, got more");
    // One text as the name of many tensors, and of dictionaries of many of them.
    let long = [text(&"a".repeat(1 << 20)), b"q\x01".to_vec()].concat();
    let one = [tensor("0", 8, 0, &[4, 1], &[1, 1]), b"q\x02".to_vec()].concat();
    let mut object = [b"}(".to_vec(), long, one].concat();
    object.extend(b"h\x01h\x02".repeat(200_000));
    refused(
        &[object.clone(), b"u".to_vec()].concat(),
        "expected names of less than 500 bytes",
    );
    let inner = [object, b"u".to_vec()].concat();
    let outer = [
        b"}(".to_vec(),
        text("a"),
        inner,
        text("b"),
        lstm(),
        b"u".to_vec(),
    ]
    .concat();
    refused(&outer, "expected names of less than 500 bytes");
    let short = [
        text("k"),
        b"q\x01".to_vec(),
        tensor("0", 8, 0, &[1], &[1]),
        b"q\x02".to_vec(),
    ];
    let short = [short.concat(), b"h\x01h\x02".repeat(200_000)].concat();
    refused(
        &[b"}(".to_vec(), short, b"u".to_vec()].concat(),
        "expected at most 65536 names",
    );
    // One dictionary of attributes for many modules.
    let attributes = b"NN".repeat(50_000);
    let attributes = [b"}(".to_vec(), attributes, b"uq\x03".to_vec()].concat();
    let mut object = [b"}(".to_vec(), text("w"), lstm(), text("c")].concat();
    object.extend([global("a.b", "Module"), b"q\x01".to_vec(), text("d")].concat());
    object.extend([attributes, text("e"), b")q\x02".to_vec()].concat());
    for k in 0..50_000 {
        object.extend([text(&k.to_string()), b"h\x01h\x02\x81h\x03b".to_vec()].concat());
    }
    object.extend(b"u");
    let found = open(legacy(&object, &NUMBERS), None).unwrap();
    assert_eq!(found.layers.len(), 1);
    // A dictionary in itself, and a tensor.
    let itself = [b"}q\x00".to_vec(), text("a"), b"h\x00s".to_vec()].concat();
    let both = [itself.clone(), text("b"), lstm(), b"s".to_vec()].concat();
    assert!(open(legacy(&both, &NUMBERS), None).is_ok());
    refused(&itself, "storage 0: expected a tensor of it, got none");
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn lengths() {
    refused(
        b"\x8b\xff\xff\xff\x7f",
        "expected another 2147483647 bytes, got",
    );
    refused(
        b"X\xff\xff\xff\xff",
        "expected another 4294967295 bytes, got",
    );
    refused(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff", "bytes, got");
    refused(b"R", "expected something on the stack, got none");
    refused(b"t", "expected a mark on the stack, got none");
    refused(b"NN(R", "expected something on the stack, got none");
    refused(b"h\x07", "expected object 7 in the memo, got none");
    refused(
        b"}(Nu",
        "expected keys and values, got a key without a value",
    );
    refused(b"Na", "expected something on the stack, got none");
    refused(b"NNa", "expected a list to append to, got something else");
    refused(
        &dict(&[("packed", b"N".to_vec()), ("x", int(3))]),
        "storage 0: expected a tensor of it, got none",
    );
    refused(b"\x80\x09", "expected protocol 5 or less, got 9");
    // As long as an integer can be.
    let mut long = vec![0x8a, 255];
    long.extend([7; 255]);
    refused(&long, "storage 0: expected a tensor of it, got none");
}

#[test]
fn views() {
    let with = |view: Vec<u8>| {
        dict(&[
            ("weight_ih_l0", view),
            ("weight_hh_l0", tensor("0", 8, 4, &[4, 1], &[1, 1])),
        ])
    };
    let outside = "key weight_ih_l0: expected numbers within the 8 of storage 0, got offset";
    for (offset, sizes, strides) in [
        (5, &[4, 1][..], &[1, 1][..]),
        (i32::MAX, &[4, 1], &[1, 1]),
        (0, &[4, 1], &[3, 1]),
        (0, &[4, 2], &[i32::MAX, i32::MAX]),
        (0, &[9, 1], &[1, 1]),
    ] {
        refused(&with(tensor("0", 8, offset, sizes, strides)), outside);
    }
    let most = i32::MAX;
    // Nothing of no size, however far it may be.
    let empty = with(tensor("0", 8, most, &[0, 4], &[most, most]));
    refused(
        &empty,
        "key weight_ih_l0: expected shape [4, I], got [0, 4]",
    );
    refused(
        &with(tensor("0", 8, -1, &[4, 1], &[1, 1])),
        "expected an offset, got something else",
    );
    refused(
        &with(tensor("0", 8, 0, &[-4, 1], &[1, 1])),
        "expected sizes, got something else",
    );
    refused(
        &with(tensor("0", 8, 0, &[4, 1], &[-1, 1])),
        "expected strides, got something else",
    );
    refused(
        &with(tensor("0", 8, 0, &[4, 1], &[1])),
        "expected a stride for each of 2 sizes, got 1",
    );
    refused(
        &with(tensor("0", 9, 0, &[4, 1], &[1, 1])),
        "expected 9 numbers of 4 bytes in storage 0",
    );
    refused(
        &with(tensor("1", 8, 0, &[4, 1], &[1, 1])),
        "expected storage 1, got none",
    );
    // A storage of eight numbers for a tensor of very many.
    let huge = with(tensor("0", 8, 0, &[1 << 20, 1 << 20], &[0, 0]));
    refused(
        &huge,
        "expected tensors of twice the file's numbers at most",
    );
    let huge = with(tensor("0", 8, 0, &[most; 5], &[0; 5]));
    refused(&huge, "key weight_ih_l0: expected fewer numbers, got");
    let many: Vec<(String, Vec<u8>)> = (0..2000)
        .map(|k| {
            (
                format!("{k}.weight"),
                tensor("0", 8, 0, &[100, 100], &[0, 0]),
            )
        })
        .collect();
    let many: Vec<(&str, Vec<u8>)> = many.iter().map(|(k, v)| (&k[..], v.clone())).collect();
    refused(
        &dict(&many),
        "expected tensors of twice the file's numbers at most",
    );
    // A step of the largest size behind the only number.
    let far = with(tensor("0", 8, 0, &[4, 1], &[1, most]));
    assert!(open(legacy(&far, &NUMBERS), None).is_ok());
    let numbers = [0.5, f32::NAN, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5];
    let error = open(legacy(&lstm(), &numbers), None)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("key weight_ih_l0: expected finite numbers, got NaN at 1"),
        "{error}"
    );
}

#[test]
fn checkpoints() {
    let two = [("model", lstm()), ("optimizer", lstm()), ("net", lstm())];
    refused(
        &dict(&two),
        "expected one model, got model and net: name one of them by --part",
    );
    let found = open(legacy(&dict(&two), &NUMBERS), Some("net")).unwrap();
    assert_eq!(found.layers.len(), 1);
    assert_eq!(
        found.notes[0],
        "Other models or states, left out: model, optimizer."
    );
    let found = open(legacy(&dict(&two[..2]), &NUMBERS), None).unwrap();
    assert_eq!(
        found.notes[0],
        "Other models or states, left out: optimizer."
    );
    // Without a key that says which is the model, those that are named.
    let two = [
        ("encoder", lstm()),
        ("decoder", lstm()),
        ("optim_a", lstm()),
    ];
    refused(
        &dict(&two),
        "expected one model, got encoder, decoder: name one of them by --part",
    );
    let found = open(legacy(&dict(&two), &NUMBERS), Some("encoder, decoder")).unwrap();
    let names: Vec<&str> = found.layers.iter().map(|layer| &layer.name[..]).collect();
    assert_eq!(names, ["encoder.l0", "decoder.l0"]);
    let found = open(legacy(&dict(&two), &NUMBERS), Some("decoder")).unwrap();
    assert_eq!(found.layers.len(), 1);
    // A dictionary beside tensors is a module of theirs, unless it is called the model.
    let weight = ("head.weight", tensor("0", 8, 0, &[2, 1], &[1, 1]));
    let beside = dict(&[weight.clone(), ("lstm", lstm())]);
    let found = open(legacy(&beside, &NUMBERS), None).unwrap();
    let names: Vec<&str> = found.layers.iter().map(|layer| &layer.name[..]).collect();
    assert_eq!(names, ["head", "lstm.l0"]);
    let beside = dict(&[weight, ("model", lstm())]);
    let found = open(legacy(&beside, &NUMBERS), None).unwrap();
    assert_eq!(
        found.notes[0],
        "Other models or states, left out: head.weight."
    );
    // Several things in a tuple, and dictionaries in each other.
    let inner = dict(&[("checkpoint", dict(&[("state_dict", lstm())]))]);
    let found = open(legacy(&tuple(&[inner, int(3)]), &NUMBERS), None).unwrap();
    assert_eq!(found.layers[0].name, "l0");
}

#[test]
fn archives() {
    let pickle = [b"\x80\x02".to_vec(), lstm(), b".".to_vec()].concat();
    let storage: Vec<u8> = NUMBERS.iter().flat_map(|v| v.to_le_bytes()).collect();
    let refused = |entries: &[(&str, &[u8])], method, problem: &str| {
        let error = open(archive(entries, method), None)
            .unwrap_err()
            .to_string();
        assert!(error.contains(problem), "{error}");
    };
    let (stored, deflated) = (CompressionMethod::Stored, CompressionMethod::Deflated);
    let named = ("a/data.pkl", &pickle[..]);
    refused(&[named], stored, "entry a/data/0: cannot be read");
    let zeros = vec![0; 16 << 20];
    let many = "entry a/data/0: expected fewer bytes in all entries, got more";
    refused(&[named, ("a/data/0", &zeros)], deflated, many);
    refused(
        &[named, ("a/data/0", &storage), ("a/byteorder", b"big")],
        stored,
        "expected little-endian numbers, got another byte order",
    );
    let empty = b"\x80\x02}.";
    refused(
        &[("a/data.pkl", empty), ("a/constants.pkl", empty)],
        stored,
        "expected a TorchScript module with parameters, got none",
    );
    let no_weights = [b"\x80\x02".to_vec(), dict(&[("x", int(3))]), b".".to_vec()].concat();
    refused(
        &[("a/data.pkl", &no_weights)],
        stored,
        "expected tensors with PyTorch's names, got none; Not weights, and left out: x.",
    );
    // Other archives are not for this reader.
    for name in ["a/b/data.pkl", "model.json", "config.json"] {
        let bytes = archive(&[(name, empty)], stored);
        assert!(!is(&Source::from_bytes(Path::new("other"), bytes)));
    }
    // An entry that says it is smaller than it is.
    let whole = archive(&[named, ("a/data/0", &zeros)], deflated);
    let size = (zeros.len() as u32).to_le_bytes();
    let mut lying = whole.clone();
    let places: Vec<usize> = (0..whole.len() - 4)
        .filter(|&k| whole[k..k + 4] == size)
        .collect();
    assert!(!places.is_empty());
    for at in places {
        lying[at..at + 4].copy_from_slice(&32u32.to_le_bytes());
    }
    assert!(attempt(lying).is_none());
}

/// Pickles with damage that no checksum catches.
#[test]
fn damaged_pickles() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/import");
    let mut state = 0x9e37_79b9_7f4a_7c15;
    for name in [
        "torch_words.pt",
        "torch_script.pt",
        "torch_module.pt",
        "torch_lightning.ckpt",
    ] {
        let Ok(bytes) = std::fs::read(folder.join(name)) else {
            return;
        };
        let mut from = ZipArchive::new(Cursor::new(bytes)).unwrap();
        let names: Vec<String> = from
            .file_names()
            .map(|name| name.unwrap().into_owned())
            .collect();
        let mut entries: Vec<(&str, Vec<u8>)> = Vec::new();
        for name in &names {
            let mut bytes = Vec::new();
            from.by_name(name).unwrap().read_to_end(&mut bytes).unwrap();
            entries.push((name, bytes));
        }
        for _ in 0..400 {
            let mut damaged = entries.clone();
            for (name, bytes) in &mut damaged {
                if !name.ends_with("/data.pkl") {
                    continue;
                }
                for _ in 0..1 + random(&mut state) % 3 {
                    let at = random(&mut state) % bytes.len();
                    match random(&mut state) % 4 {
                        0 => bytes[at] = random(&mut state) as u8,
                        1 => bytes[at] ^= 1 << (random(&mut state) % 8),
                        2 => drop(bytes.remove(at)),
                        _ => bytes.insert(at, b"hq(t}RbQs.u\x86"[random(&mut state) % 12]),
                    }
                }
            }
            let damaged: Vec<(&str, &[u8])> = damaged.iter().map(|(n, b)| (*n, &b[..])).collect();
            attempt(archive(&damaged, CompressionMethod::Stored));
        }
    }
}
