//! Values of the seam as PostgreSQL's binary format has them.

use std::error::Error;

use bytes::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::clock::Timestamp;
use crate::storage::{Row, SqlValue, StorageError};

/// Why a value cannot be written as a type.
pub type Wrong = Box<dyn Error + Sync + Send>;

/// Microseconds from 1970 to PostgreSQL's own beginning, 2000-01-01.
const EPOCH_US: i64 = 946_684_800_000_000;

/// An instant as TIMESTAMP, in UTC.
#[derive(Clone, Copy, Debug)]
pub struct Utc(pub Timestamp);

impl ToSql for Utc {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Wrong> {
        // Whole milliseconds: what the other store keeps.
        let micros = self.0.as_millisecond().saturating_mul(1000).saturating_sub(EPOCH_US);
        out.extend_from_slice(&micros.to_be_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::TIMESTAMP | Type::TIMESTAMPTZ)
    }

    to_sql_checked!();
}

impl FromSql<'_> for Utc {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, Wrong> {
        let micros = i64::from_be_bytes(raw.try_into()?).saturating_add(EPOCH_US);
        Ok(Self(Timestamp::from_microsecond(micros)?))
    }

    fn accepts(ty: &Type) -> bool {
        <Self as ToSql>::accepts(ty)
    }
}

impl ToSql for SqlValue {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Wrong> {
        let misplaced = || Err(format!("a value of another kind than {ty}").into());
        match (self, ty) {
            (Self::Null, _) => Ok(IsNull::Yes),
            (Self::Bool(value), &Type::BOOL) => value.to_sql(ty, out),
            (Self::Int(number), &Type::INT8) => number.to_sql(ty, out),
            (Self::Int(number), &Type::INT4) => i32::try_from(*number)?.to_sql(ty, out),
            (Self::Int(number), &Type::INT2) => i16::try_from(*number)?.to_sql(ty, out),
            (Self::Real(number), &Type::FLOAT8) => number.to_sql(ty, out),
            (Self::Bytes(bytes), &Type::BYTEA) => bytes.to_sql(ty, out),
            (Self::Time(at), ty) if <Utc as ToSql>::accepts(ty) => Utc(*at).to_sql(ty, out),
            (Self::Json(json), &Type::JSONB) => {
                // The version of the binary format.
                out.extend_from_slice(&[1]);
                out.extend_from_slice(json.to_string().as_bytes());
                Ok(IsNull::No)
            }
            (Self::Json(json), ty) if <String as ToSql>::accepts(ty) => json.to_string().to_sql(ty, out),
            (Self::Text(text), ty) if <String as ToSql>::accepts(ty) => text.to_sql(ty, out),
            _ => misplaced(),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl FromSql<'_> for SqlValue {
    fn from_sql(ty: &Type, raw: &[u8]) -> Result<Self, Wrong> {
        Ok(match *ty {
            Type::BOOL => Self::Bool(bool::from_sql(ty, raw)?),
            Type::INT2 => Self::Int(i16::from_sql(ty, raw)?.into()),
            Type::INT4 => Self::Int(i32::from_sql(ty, raw)?.into()),
            Type::INT8 => Self::Int(i64::from_sql(ty, raw)?),
            Type::FLOAT8 => Self::Real(f64::from_sql(ty, raw)?),
            Type::BYTEA => Self::Bytes(raw.to_vec()),
            Type::TIMESTAMP | Type::TIMESTAMPTZ => Self::Time(Utc::from_sql(ty, raw)?.0),
            Type::JSONB => json(raw.get(1..).unwrap_or_default()),
            Type::JSON => json(raw),
            _ if <String as FromSql>::accepts(ty) => Self::Text(String::from_sql(ty, raw)?),
            _ => return Err(format!("a column of type {ty}").into()),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Wrong> {
        Ok(Self::Null)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// A number that only PostgreSQL can hold makes it text: one odd document must not hide the rows beside it.
fn json(raw: &[u8]) -> SqlValue {
    serde_json::from_slice(raw)
        .map_or_else(|_| SqlValue::Text(String::from_utf8_lossy(raw).into_owned()), SqlValue::Json)
}

/// A row of the driver's as one of ours.
pub fn row(row: &tokio_postgres::Row) -> Result<Row, StorageError> {
    (0..row.len())
        .map(|column| row.try_get(column))
        .collect::<Result<Vec<SqlValue>, _>>()
        .map(Row)
        .map_err(Into::into)
}

/// `?1` as PostgreSQL writes it: `$1`. No statement of ours has a question mark of another meaning.
pub fn numbered(sql: &str) -> String {
    sql.replace('?', "$")
}
