//! The edge module without its compiler: what remains serves a configuration that was compiled before (`plugins/edge/js/image.js`).
//!
//! Nothing is compiled anew. The function that compiles is no longer exported, and what nothing else reaches goes with it.
//! Tables and the addresses of data stay as they are, because a memory that the whole module wrote must mean the same to
//! this one.

use std::path::Path;

use anyhow::{Context, Result};
use walrus::{Module, passes};

/// What the compiler is exported as.
const COMPILER: &str = "compile";

/// Reads a module and writes it without its compiler.
pub(crate) fn file(from: &Path, to: &Path) -> Result<()> {
    let bytes = std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    let trimmed = trim(&bytes).with_context(|| from.display().to_string())?;
    std::fs::write(to, trimmed).with_context(|| format!("cannot write {}", to.display()))
}

fn trim(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut module = Module::from_buffer(bytes)?;
    module.exports.remove(COMPILER).context("the module exports no compiler")?;
    passes::gc::run(&mut module);
    Ok(module.emit_wasm())
}

#[cfg(test)]
mod tests {
    use walrus::{FunctionBuilder, Module, ModuleConfig};

    use super::*;

    fn module(exports: &[&str]) -> Vec<u8> {
        let mut module = Module::with_config(ModuleConfig::new());
        for name in exports {
            let mut function = FunctionBuilder::new(&mut module.types, &[], &[]);
            function.name((*name).to_owned()).func_body();
            let function = function.finish(vec![], &mut module.funcs);
            module.exports.add(name, function);
        }
        module.emit_wasm()
    }

    #[test]
    fn the_compiler_goes_and_the_rest_stays() {
        let trimmed = Module::from_buffer(&trim(&module(&["serve", COMPILER])).unwrap()).unwrap();
        let names: Vec<&str> = trimmed.exports.iter().map(|export| export.name.as_str()).collect();
        assert_eq!(names, ["serve"]);
        assert_eq!(trimmed.funcs.iter().count(), 1);
        assert!(trim(&module(&["serve"])).is_err());
    }
}
