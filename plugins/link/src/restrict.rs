//! A module for hosts that forbid what proxy-wasm calls optional.
//!
//! Some edges refuse a module that even imports a timer, a metric, shared data, a queue or a call to another service. The
//! whole module does without each of them where a host answers "unimplemented" (status 12). So the imports are taken out,
//! and functions that give this answer take their place: the code that decides stays what it is everywhere else, and is
//! tested everywhere else. What an optimizer then finds to be dead is its affair.
//!
//! Such edges ignore `Pause` too, so that they keep nothing of a body. The module is told by a byte of its data.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use walrus::{
    ConstExpr, DataKind, ExportItem, FunctionId, GlobalKind, ImportKind, Module, ValType, ir::Value,
};

/// The host's word for "there is no such call".
const UNIMPLEMENTED: i32 = 12;

/// What such hosts forbid.
const FORBIDDEN: [&str; 20] = [
    "proxy_set_tick_period_milliseconds",
    "proxy_define_metric",
    "proxy_increment_metric",
    "proxy_record_metric",
    "proxy_get_metric",
    "proxy_get_shared_data",
    "proxy_set_shared_data",
    "proxy_register_shared_queue",
    "proxy_resolve_shared_queue",
    "proxy_enqueue_shared_queue",
    "proxy_dequeue_shared_queue",
    "proxy_http_call",
    "proxy_grpc_call",
    "proxy_grpc_stream",
    "proxy_grpc_send",
    "proxy_grpc_cancel",
    "proxy_grpc_close",
    "proxy_call_foreign_function",
    "proxy_set_effective_context",
    "proxy_done",
];

/// The byte that says whether the host keeps what follows a `Pause`; exported with its address.
const HOST_KEEPS: &str = "PORTCULLIS_HOST_KEEPS";

/// Reads a module and writes its restricted form.
pub(crate) fn file(from: &Path, to: &Path) -> Result<()> {
    let bytes = std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    let restricted = restrict(&bytes).with_context(|| from.display().to_string())?;
    std::fs::write(to, restricted).with_context(|| format!("cannot write {}", to.display()))
}

fn restrict(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut module = Module::from_buffer(bytes)?;
    let forbidden: Vec<(FunctionId, String)> = module
        .imports
        .iter()
        .filter(|import| import.module == "env" && FORBIDDEN.contains(&import.name.as_str()))
        .filter_map(|import| match import.kind {
            ImportKind::Function(id) => Some((id, import.name.clone())),
            _ => None,
        })
        .collect();
    for (id, name) in forbidden {
        let kind = module.types.results(module.funcs.get(id).ty());
        ensure!(kind == [ValType::I32], "{name} does not answer with a status");
        module.replace_imported_func(id, |(body, _)| {
            body.i32_const(UNIMPLEMENTED);
        })?;
    }
    let byte = byte(&mut module).context("the module does not say whether its host keeps bodies")?;
    ensure!(*byte == 1, "{HOST_KEEPS} is {byte}, not 1");
    *byte = 0;
    Ok(module.emit_wasm())
}

/// That byte, where it lies in the module's data.
fn byte(module: &mut Module) -> Option<&mut u8> {
    let export = module.exports.iter().find(|export| export.name == HOST_KEEPS)?;
    let ExportItem::Global(global) = export.item else { return None };
    let GlobalKind::Local(ConstExpr::Value(Value::I32(address))) = module.globals.get(global).kind else {
        return None;
    };
    let (id, at) = module.data.iter().find_map(|data| {
        let DataKind::Active { offset: ConstExpr::Value(Value::I32(start)), .. } = data.kind else {
            return None;
        };
        let at = usize::try_from(address.checked_sub(start)?).ok()?;
        (at < data.value.len()).then_some((data.id(), at))
    })?;
    module.data.get_mut(id).value.get_mut(at)
}

#[cfg(test)]
mod tests {
    use walrus::{FunctionBuilder, Module, ModuleConfig, ValType};

    /// Memory with the byte, at an address in the middle of other data.
    fn tell(module: &mut Module) {
        let memory = module.memories.add_local(false, false, 1, None, None);
        let at = |address| ConstExpr::Value(Value::I32(address));
        module.data.add(DataKind::Active { memory, offset: at(1024) }, vec![7; 8]);
        module.data.add(DataKind::Active { memory, offset: at(2048) }, vec![9, 1, 9]);
        let global = module.globals.add_local(ValType::I32, false, false, at(2049));
        module.exports.add(HOST_KEEPS, global);
    }

    use super::*;

    #[test]
    fn what_is_forbidden_is_answered_within_and_the_rest_is_asked_for() {
        let mut module = Module::with_config(ModuleConfig::new());
        let kind = module.types.add(&[ValType::I32], &[ValType::I32]);
        let (tick, _) = module.add_import_func("env", "proxy_set_tick_period_milliseconds", kind);
        let (log, _) = module.add_import_func("env", "proxy_log", kind);
        let mut function = FunctionBuilder::new(&mut module.types, &[], &[ValType::I32]);
        function
            .func_body()
            .i32_const(1)
            .call(tick)
            .i32_const(2)
            .call(log)
            .binop(walrus::ir::BinaryOp::I32Add);
        let function = function.finish(vec![], &mut module.funcs);
        module.exports.add("f", function);
        assert!(restrict(&module.emit_wasm()).is_err(), "it does not say whether bodies are kept");
        tell(&mut module);
        let restricted = Module::from_buffer(&restrict(&module.emit_wasm()).unwrap()).unwrap();
        let names: Vec<&str> = restricted.imports.iter().map(|import| import.name.as_str()).collect();
        assert_eq!(names, ["proxy_log"]);
        let data: Vec<&[u8]> = restricted.data.iter().map(|data| &data.value[..]).collect();
        assert_eq!(data, [&[7; 8][..], &[9, 0, 9]]);
    }
}
