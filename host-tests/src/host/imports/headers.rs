//! Header maps and buffers.

use wasmtime::Linker;

use super::{
    super::{headers::HeaderMap, state::State, status::Status},
    functions,
};

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    functions! { linker;
        proxy_get_header_map_pairs(guest, map: u32, data: u32, size: u32) {
            let bytes = match guest.state().map(map)? {
                Some(map) => map.serialize(),
                None => HeaderMap::new().serialize(),
            };
            guest.give(&bytes, data, size)
        }
        proxy_set_header_map_pairs(guest, map: u32, pairs: u32, pairs_size: u32) {
            let bytes = guest.bytes(pairs, pairs_size)?;
            let fresh = HeaderMap::parse(&bytes).ok_or(Status::ParseFailure)?;
            *guest.state().open_map(map)? = fresh;
            Ok(())
        }
        proxy_get_header_map_size(guest, map: u32, size: u32) {
            let bytes = guest.state().map(map)?.map_or(0, |map| map.bytes());
            guest.write_u32(size, u32::try_from(bytes).unwrap_or(u32::MAX))?;
            Ok(())
        }
        proxy_get_header_map_value(guest, map: u32, name: u32, name_size: u32, data: u32, size: u32) {
            let name = guest.bytes(name, name_size)?;
            let map = guest.state().map(map)?.ok_or(Status::BadArgument)?;
            let value = map.first(&name).ok_or(Status::NotFound)?.to_vec();
            guest.give(&value, data, size)
        }
        proxy_add_header_map_value(guest, map: u32, name: u32, name_size: u32, value: u32, value_size: u32) {
            let (name, value) = (guest.bytes(name, name_size)?, guest.bytes(value, value_size)?);
            guest.state().open_map(map)?.add(name, value);
            Ok(())
        }
        proxy_replace_header_map_value(guest, map: u32, name: u32, name_size: u32, value: u32, value_size: u32) {
            let (name, value) = (guest.bytes(name, name_size)?, guest.bytes(value, value_size)?);
            guest.state().open_map(map)?.replace(name, value);
            Ok(())
        }
        proxy_remove_header_map_value(guest, map: u32, name: u32, name_size: u32) {
            let name = guest.bytes(name, name_size)?;
            guest.state().open_map(map)?.remove(name);
            Ok(())
        }
        proxy_get_buffer_bytes(guest, buffer: u32, start: u32, most: u32, data: u32, size: u32) {
            start.checked_add(most).ok_or(Status::BadArgument)?;
            let buffer = guest.state().buffer(buffer)?;
            let rest = buffer.get(start as usize..).ok_or(Status::BadArgument)?;
            let piece = rest.get(..most as usize).unwrap_or(rest).to_vec();
            guest.give(&piece, data, size)
        }
        proxy_get_buffer_status(guest, buffer: u32, size: u32, flags: u32) {
            let length = guest.state().buffer(buffer)?.len();
            guest.write_u32(size, u32::try_from(length).unwrap_or(u32::MAX))?;
            guest.write_u32(flags, 0)?;
            Ok(())
        }
        proxy_set_buffer_bytes(guest, buffer: u32, start: u32, length: u32, data: u32, size: u32) {
            let bytes = guest.bytes(data, size)?;
            if buffer > 1 {
                return Err(Status::BadArgument.into());
            }
            let buffer = guest.state().buffer(buffer)?;
            match (start as usize, length as usize) {
                (0, 0) => drop(buffer.splice(..0, bytes)),
                (0, length) if length >= buffer.len() => *buffer = bytes,
                (start, _) if start >= buffer.len() => buffer.extend_from_slice(&bytes),
                _ => return Err(Status::BadArgument.into()),
            }
            Ok(())
        }
    }
    Ok(())
}
