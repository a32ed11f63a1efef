//! Calls to other services, shared data, queues and metrics.

use std::time::Duration;

use wasmtime::Linker;

use super::{
    super::{
        headers::HeaderMap,
        state::{Call, State},
        status::Status,
    },
    functions,
};

/// What a call must say at least.
const REQUIRED: [&str; 3] = [":method", ":path", ":authority"];

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    link_shared(linker)?;
    functions! { linker;
        proxy_http_call(
            guest, upstream: u32, upstream_size: u32, headers: u32, headers_size: u32, body: u32, body_size: u32,
            trailers: u32, trailers_size: u32, timeout_ms: u32, token: u32
        ) {
            let upstream = guest.bytes(upstream, upstream_size)?;
            let headers = HeaderMap::parse(&guest.bytes(headers, headers_size)?).ok_or(Status::ParseFailure)?;
            let body = guest.bytes(body, body_size)?;
            let trailers = HeaderMap::parse(&guest.bytes(trailers, trailers_size)?).ok_or(Status::ParseFailure)?;
            if upstream.is_empty() || REQUIRED.iter().any(|name| headers.first(name).is_none()) {
                return Err(Status::BadArgument.into());
            }
            let state = guest.state();
            state.next_token = state.next_token.wrapping_add(1).max(1);
            let number = state.next_token;
            state.in_flight.push(number);
            state.calls.push(Call {
                token: number,
                upstream: String::from_utf8_lossy(&upstream).into_owned(),
                headers,
                body,
                trailers,
                timeout: Duration::from_millis(u64::from(timeout_ms)),
            });
            guest.write_u32(token, number)?;
            Ok(())
        }
        proxy_grpc_call(
            _guest, _service: u32, _service_size: u32, _name: u32, _name_size: u32, _method: u32, _method_size: u32,
            _metadata: u32, _metadata_size: u32, _message: u32, _message_size: u32, _timeout: u32, _token: u32
        ) { Err(Status::Unimplemented.into()) }
        proxy_grpc_stream(
            _guest, _service: u32, _service_size: u32, _name: u32, _name_size: u32, _method: u32, _method_size: u32,
            _metadata: u32, _metadata_size: u32, _token: u32
        ) { Err(Status::Unimplemented.into()) }
        proxy_grpc_send(_guest, _token: u32, _message: u32, _size: u32, _end: u32) {
            Err(Status::Unimplemented.into())
        }
        proxy_grpc_cancel(_guest, _token: u32) { Err(Status::Unimplemented.into()) }
        proxy_grpc_close(_guest, _token: u32) { Err(Status::Unimplemented.into()) }
        proxy_call_foreign_function(
            _guest, _name: u32, _name_size: u32, _argument: u32, _argument_size: u32, _data: u32, _size: u32
        ) { Err(Status::NotFound.into()) }
    }
    Ok(())
}

fn link_shared(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    functions! { linker;
        proxy_get_shared_data(guest, key: u32, key_size: u32, data: u32, size: u32, version: u32) {
            let key = guest.bytes(key, key_size)?;
            let found = guest.process().with_shared(|shared| {
                shared.load(&key).map(|(value, version)| (value.to_vec(), version))
            });
            let (value, stored) = found?;
            guest.give(&value, data, size)?;
            guest.write_u32(version, stored)?;
            Ok(())
        }
        proxy_set_shared_data(guest, key: u32, key_size: u32, value: u32, value_size: u32, version: u32) {
            let (key, value) = (guest.bytes(key, key_size)?, guest.bytes(value, value_size)?);
            let process = guest.process();
            process.another_thread();
            let zero_creates = guest.state().options.profile.zero_creates();
            process.with_shared(|shared| match zero_creates {
                true => shared.store_exactly(&key, &value, version),
                false => shared.store(&key, &value, version),
            })?;
            Ok(())
        }
        proxy_register_shared_queue(guest, name: u32, name_size: u32, queue: u32) {
            let name = guest.bytes(name, name_size)?;
            let number = guest.process().with_queues(|queues| queues.register(&name));
            guest.write_u32(queue, number)?;
            Ok(())
        }
        proxy_resolve_shared_queue(guest, _vm: u32, _vm_size: u32, name: u32, name_size: u32, queue: u32) {
            let name = guest.bytes(name, name_size)?;
            let number = guest.process().with_queues(|queues| queues.resolve(&name))?;
            guest.write_u32(queue, number)?;
            Ok(())
        }
        proxy_enqueue_shared_queue(guest, queue: u32, item: u32, size: u32) {
            let item = guest.bytes(item, size)?;
            guest.process().with_queues(|queues| queues.enqueue(queue, item))?;
            Ok(())
        }
        proxy_dequeue_shared_queue(guest, queue: u32, data: u32, size: u32) {
            let item = guest.process().with_queues(|queues| queues.dequeue(queue))?;
            guest.give(&item, data, size)
        }
        proxy_define_metric(guest, kind: u32, name: u32, name_size: u32, metric: u32) {
            let name = guest.bytes(name, name_size)?;
            let number = guest.process().with_metrics(|metrics| metrics.define(kind, &name))?;
            guest.write_u32(metric, number)?;
            Ok(())
        }
        proxy_increment_metric(guest, metric: u32, by: i64) {
            guest.process().with_metrics(|metrics| metrics.increment(metric, by))?;
            Ok(())
        }
        proxy_record_metric(guest, metric: u32, value: u64) {
            guest.process().with_metrics(|metrics| metrics.record(metric, value))?;
            Ok(())
        }
        proxy_get_metric(guest, metric: u32, value: u32) {
            let now = guest.process().with_metrics(|metrics| metrics.value(metric))?;
            guest.write_u64(value, now)?;
            Ok(())
        }
    }
    Ok(())
}
