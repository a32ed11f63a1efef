//! A module that has a filter's callbacks and does nothing in them: what Envoy itself takes for the way into a module and back.
//!
//! It is put together byte by byte (WebAssembly core specification, 5), so that no compiler, SDK or library has a part in
//! what it costs.

const I32: u8 = 0x7f;
const FUNCTION: u8 = 0x60;
const CONST: u8 = 0x41;
const END: u8 = 0x0b;

/// What a function returns.
#[derive(Clone, Copy)]
enum Returns {
    Nothing,
    /// This, always; below 64, so that it is one byte.
    Number(u8),
}

/// The functions that a host of the ABI 0.2.1 looks for: their names, how many integers they take, and what they return.
const FUNCTIONS: &[(&str, u8, Returns)] = &[
    ("proxy_abi_version_0_2_1", 0, Returns::Nothing),
    // Nothing is ever asked for, so nothing is ever handed over.
    ("proxy_on_memory_allocate", 1, Returns::Number(0)),
    ("proxy_on_vm_start", 2, Returns::Number(1)),
    ("proxy_on_configure", 2, Returns::Number(1)),
    ("proxy_on_context_create", 2, Returns::Nothing),
    ("proxy_on_request_headers", 3, Returns::Number(0)),
    ("proxy_on_request_body", 3, Returns::Number(0)),
    ("proxy_on_request_trailers", 2, Returns::Number(0)),
    ("proxy_on_response_headers", 3, Returns::Number(0)),
    ("proxy_on_response_body", 3, Returns::Number(0)),
    ("proxy_on_response_trailers", 2, Returns::Number(0)),
    ("proxy_on_done", 1, Returns::Number(1)),
    ("proxy_on_log", 1, Returns::Nothing),
    ("proxy_on_delete", 1, Returns::Nothing),
];

/// The module.
pub fn module() -> Vec<u8> {
    let (mut types, mut functions, mut exports, mut codes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (number, (name, parameters, returns)) in FUNCTIONS.iter().enumerate() {
        let number = u8::try_from(number).unwrap_or(u8::MAX);
        let parameters = vec![I32; usize::from(*parameters)];
        let (results, body) = match returns {
            Returns::Nothing => (vec![], vec![0, END]),
            Returns::Number(number) => (vec![I32], vec![0, CONST, *number, END]),
        };
        types.push([vec![FUNCTION], sized(&parameters), sized(&results)].concat());
        functions.push(vec![number]);
        exports.push([sized(name.as_bytes()), vec![0, number]].concat());
        codes.push(sized(&body));
    }
    exports.push([sized(b"memory"), vec![2, 0]].concat());
    let memory = vec![vec![0, 1]];
    let sections = [(1, types), (3, functions), (5, memory), (7, exports), (10, codes)];
    let mut bytes = b"\0asm\x01\0\0\0".to_vec();
    for (kind, items) in sections {
        let content = [length(items.len()), items.concat()].concat();
        bytes.push(kind);
        bytes.extend(sized(&content));
    }
    bytes
}

/// Bytes behind how many they are.
fn sized(bytes: &[u8]) -> Vec<u8> {
    [&length(bytes.len())[..], bytes].concat()
}

/// A number in LEB128.
fn length(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or_default();
        number >>= 7;
        bytes.push(if number == 0 { low } else { low | 0x80 });
        if number == 0 {
            return bytes;
        }
    }
}
