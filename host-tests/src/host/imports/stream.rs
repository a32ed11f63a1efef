//! The log, time, properties, and what becomes of a stream.

use std::time::Duration;

use wasmtime::Linker;

use super::{
    super::{
        headers::HeaderMap,
        property::Property,
        state::{Direction, Reply, State},
        status::{Fault, Status},
    },
    functions,
};

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    functions! { linker;
        proxy_log(guest, level: u32, text: u32, size: u32) {
            let text = guest.bytes(text, size)?;
            if level > 5 {
                return Err(Status::BadArgument.into());
            }
            let number = guest.state().number;
            guest.process().write_log(number, level, &text);
            Ok(())
        }
        proxy_get_log_level(guest, level: u32) {
            let now = guest.process().log_level();
            guest.write_u32(level, now)?;
            Ok(())
        }
        proxy_get_current_time_nanoseconds(guest, time: u32) {
            let now = guest.process().wall_ns();
            guest.write_u64(time, now)?;
            Ok(())
        }
        proxy_set_tick_period_milliseconds(guest, period: u32) {
            guest.state().tick = (period > 0).then(|| Duration::from_millis(u64::from(period)));
            Ok(())
        }
        proxy_get_property(guest, path: u32, path_size: u32, data: u32, size: u32) {
            let path = guest.bytes(path, path_size)?;
            let value = guest.state().property(&path)?;
            guest.give(&value, data, size)
        }
        proxy_set_property(guest, path: u32, path_size: u32, value: u32, value_size: u32) {
            let (path, value) = (guest.bytes(path, path_size)?, guest.bytes(value, value_size)?);
            let stream = guest.state().stream().ok_or(Status::NotFound)?;
            stream.properties.insert(path, Property::Text(value));
            Ok(())
        }
        proxy_send_local_response(
            guest, status: u32, details: u32, details_size: u32, body: u32, body_size: u32, headers: u32,
            headers_size: u32, _grpc: i32
        ) {
            let details = String::from_utf8_lossy(&guest.bytes(details, details_size)?).into_owned();
            let body = guest.bytes(body, body_size)?;
            let headers = guest.bytes(headers, headers_size)?;
            let headers = HeaderMap::parse(&headers).ok_or(Status::BadArgument)?;
            // From a tick it does nothing.
            let Some(stream) = guest.state().stream() else { return Ok(()) };
            if stream.over {
                return Err(Fault::Fatal("in on_log, where Envoy calls on_log again until its stack is used up".into()));
            }
            if !stream.local {
                stream.asked_reply.get_or_insert(Reply { status, details, headers, body });
            }
            Ok(())
        }
        proxy_continue_stream(guest, direction: u32) {
            let stream = guest.state().stream().ok_or(Status::BadArgument)?;
            stream.go_on = Some(match direction {
                0 => Direction::Request,
                1 => Direction::Response,
                _ => return Err(Status::BadArgument.into()),
            });
            Ok(())
        }
        proxy_close_stream(guest, _direction: u32) {
            guest.state().stream().ok_or(Status::BadArgument)?.reset = true;
            Ok(())
        }
        proxy_get_status(guest, code: u32, data: u32, size: u32) {
            guest.write_u32(code, 0)?;
            guest.give(b"", data, size)
        }
        proxy_set_effective_context(guest, context: u32) {
            let state = guest.state();
            if context != super::super::vm::ROOT && !state.streams.contains_key(&context) {
                return Err(Status::BadArgument.into());
            }
            state.current = context;
            Ok(())
        }
        proxy_done(guest) {
            let state = guest.state();
            // A stream ends when it ends.
            state.done = state.done || state.current == super::super::vm::ROOT;
            Ok(())
        }
    }
    Ok(())
}
