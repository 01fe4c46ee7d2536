//! From and to tokio-util's `CancellationToken`, for code that already speaks it.

use std::future::Future;
use std::panic::Location;

use tokio_util::sync::CancellationToken;

use super::Context;
use crate::cause::Cancelled;
use crate::node::NodeKind;
use crate::timeout::{Limit, Under};

impl Context {
    /// Returns a token that is cancelled when this context is, or when its task ends.
    ///
    /// For libraries that take a token. It costs no task: the cancel that reaches the context cancels the token. Cancelling
    /// the token does nothing to the context.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example_paused(async {
    /// # use std::time::Duration;
    /// use bowline::{Context, timeout};
    ///
    /// let token = timeout(Duration::from_secs(1), async { Context::current().to_token() }).await?;
    /// assert!(token.is_cancelled()); // what it was made for has ended
    /// # Ok::<_, bowline::Cancelled>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn to_token(&self) -> CancellationToken {
        match self.followers() {
            Some(followers) => followers.token(),
            None => CancellationToken::new(), // no context: never cancelled
        }
    }
}

/// Runs `future` in a context that is cancelled when `token` is; tasks it owns inherit it.
///
/// What happens to `future` then is said at [`timeout`](crate::timeout()).
///
/// # Cancel safety
///
/// Dropping it drops `future`.
///
/// # Errors
///
/// [`Cancelled`] if `future` did not come to a value; its cause is `Requested` if it was the token.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// use tokio_util::sync::CancellationToken;
///
/// let token = CancellationToken::new();
/// token.cancel();
/// let ended = bowline::with_token(token, std::future::pending::<()>()).await;
/// assert!(ended.is_err());
/// # });
/// ```
#[track_caller]
pub fn with_token<F: Future>(
    token: CancellationToken,
    future: F,
) -> impl Future<Output = Result<F::Output, Cancelled>> {
    Under::new(Location::caller(), Limit::Token(token), NodeKind::Token, future)
}
