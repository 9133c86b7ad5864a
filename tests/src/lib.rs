//! What the suites share beside the testkit: an engine in the test's own process, a network that fails,
//! and repeatable randomness.

mod dice;
mod proxy;
mod server;

pub use dice::Dice;
pub use proxy::TcpProxy;
pub use server::TestServer;
