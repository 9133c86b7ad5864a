//! What the suites share beside the testkit: an engine in the test's own process, a network that fails, dumps of
//! databases, a pooler, users whose tokens are their claims, and repeatable randomness.

pub mod claims;
mod dice;
mod issuer;
mod pooler;
mod postgres;
mod proxy;
mod server;

pub use dice::Dice;
pub use issuer::{Answer, Issuer, SigningKey, now, sign_with_secret};
pub use pooler::Pooler;
pub use postgres::{Dump, base_type, bin_dir, dump_into, of_database};
pub use proxy::TcpProxy;
pub use server::TestServer;
