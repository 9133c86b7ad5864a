//! A macro that runs one test body on both databases.

/// Makes two tests of each function, `name::postgres` and `name::sqlite`, so that both backends run the same
/// suite.
///
/// The body receives a new [`TestDatabase`](crate::TestDatabase). Attributes (`#[ignore]`, documentation)
/// apply to both tests. The calling crate must depend on `tokio`, with its macros and multi-threaded runtime.
#[macro_export]
macro_rules! both_backends {
    ($( $(#[$attribute:meta])* async fn $name:ident($db:ident: TestDatabase) $body:block )+) => {$(
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            async fn run($db: $crate::TestDatabase) $body

            $(#[$attribute])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                ::std::boxed::Box::pin(run($crate::TestDatabase::postgres().await)).await;
            }

            $(#[$attribute])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                ::std::boxed::Box::pin(run($crate::TestDatabase::sqlite().await)).await;
            }
        }
    )+};
}
