//! [`Command`]: a decision, pure, so that it can be taken again on fresh state and tested without a database.

use super::Aggregate;

/// A wish that the aggregate's state grants, with events, or rejects.
///
/// ```
/// # use mire_client::{Aggregate, Command, EventData};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, PartialEq, Serialize, Deserialize, EventData)]
/// # #[event_data(entity = "account")]
/// # enum AccountEvent { Withdrawn { cents: i64 } }
/// # #[derive(Debug, Default)]
/// # struct Account { cents: i64 }
/// # impl Aggregate for Account {
/// #     type Event = AccountEvent;
/// #     const CATEGORY: &'static str = "account";
/// #     fn apply(&mut self, _: &AccountEvent) {}
/// # }
/// struct Withdraw {
///     cents: i64,
/// }
///
/// impl Command for Withdraw {
///     type Aggregate = Account;
///     type Rejection = &'static str;
///
///     fn decide(&self, account: &Account) -> Result<Vec<AccountEvent>, &'static str> {
///         if account.cents < self.cents {
///             return Err("not enough money");
///         }
///         Ok(vec![AccountEvent::Withdrawn { cents: self.cents }])
///     }
/// }
///
/// let account = Account { cents: 300 };
/// assert_eq!(Withdraw { cents: 500 }.decide(&account), Err("not enough money"));
/// ```
pub trait Command: Send + Sync {
    /// Whose state it decides on.
    type Aggregate: Aggregate;
    /// Why it may be rejected.
    type Rejection: Send;

    /// Decides: events that shall happen (possibly none), or a rejection. It changes nothing and looks at nothing but
    /// its own fields and `state`: after a conflict it is asked again.
    ///
    /// # Errors
    /// The rejection.
    fn decide(
        &self,
        state: &Self::Aggregate,
    ) -> Result<Vec<<Self::Aggregate as Aggregate>::Event>, Self::Rejection>;
}
