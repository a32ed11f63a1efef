//! PgBouncer, for programs that do not borrow from our pools: its configuration, its console, its figures.
//!
//! Each tenant has a database and a user there, both by the tenant's name; the password is that of the tenant's own `database_url`. Against:
//! a tenant that opens another's database (PgBouncer would let any user in; the host rules name pairs), passwords that break out of a line
//! ([`config`]), a name that leads elsewhere the second time (the address that was permitted is what is written), a tenant that takes all
//! connections ([`share`]). Not against: who may read the folder; passwords stand in it, mode 0600.
//!
//! Limits: names of letters, digits and `_ . -` (others are not offered, and it is said why); PgBouncer from 1.17 on.

pub mod config;
pub mod console;
pub mod share;
