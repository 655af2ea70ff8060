//! Given these events, when this command comes, then those events (or that rejection).

use std::fmt::Debug;

use crate::aggregate::{Aggregate, Command};
use crate::event::{EventData, decode_stored};
use crate::json::JsonRef;

/// Begins with what has happened. Events are stored and read back on the way, so what serde cannot keep is found here.
///
/// ```
/// # use mire_client::{Aggregate, Command, EventData};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, PartialEq, Serialize, Deserialize, EventData)]
/// # #[event_data(entity = "account")]
/// # enum AccountEvent { Deposited { cents: i64 }, Withdrawn { cents: i64 } }
/// # #[derive(Debug, Default, PartialEq)]
/// # struct Account { cents: i64 }
/// # impl Aggregate for Account {
/// #     type Event = AccountEvent;
/// #     const CATEGORY: &'static str = "account";
/// #     fn apply(&mut self, event: &AccountEvent) {
/// #         match event {
/// #             AccountEvent::Deposited { cents } => self.cents += cents,
/// #             AccountEvent::Withdrawn { cents } => self.cents -= cents,
/// #         }
/// #     }
/// # }
/// # struct Withdraw { cents: i64 }
/// # impl Command for Withdraw {
/// #     type Aggregate = Account;
/// #     type Rejection = String;
/// #     fn decide(&self, account: &Account) -> Result<Vec<AccountEvent>, String> {
/// #         if account.cents < self.cents { return Err("not enough money".into()); }
/// #         Ok(vec![AccountEvent::Withdrawn { cents: self.cents }])
/// #     }
/// # }
/// use mire_client::testing::given;
///
/// given::<Account>([AccountEvent::Deposited { cents: 500 }])
///     .when(&Withdraw { cents: 200 })
///     .then([AccountEvent::Withdrawn { cents: 200 }])
///     .then_state(|account| account.cents == 300);
///
/// given::<Account>([]).when(&Withdraw { cents: 1 }).then_rejected("not enough money".to_string());
/// ```
///
/// # Panics
/// When an event cannot be stored and read back.
#[track_caller]
pub fn given<A: Aggregate>(events: impl IntoIterator<Item = A::Event>) -> Given<A> {
    let mut state = A::default();
    for event in events {
        state.apply(&stored_and_read(&event));
    }
    Given { state }
}

/// An aggregate with a history.
#[derive(Debug)]
pub struct Given<A> {
    state: A,
}

/// What a command decided.
#[derive(Debug)]
#[must_use]
pub struct Outcome<A: Aggregate, R> {
    state: A,
    decided: Result<Vec<A::Event>, R>,
}

impl<A: Aggregate> Given<A> {
    /// Lets a command decide.
    pub fn when<C: Command<Aggregate = A>>(self, command: &C) -> Outcome<A, C::Rejection> {
        let decided = command.decide(&self.state);
        Outcome {
            state: self.state,
            decided,
        }
    }

    /// Checks the state.
    ///
    /// # Panics
    /// When it is not as claimed.
    #[track_caller]
    pub fn then_state(self, claim: impl FnOnce(&A) -> bool) -> Self
    where
        A: Debug,
    {
        assert!(
            claim(&self.state),
            "the state is not as claimed: {:?}",
            self.state
        );
        self
    }
}

impl<A: Aggregate, R: Debug> Outcome<A, R> {
    /// Checks that the command decided on exactly these events, and applies them.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn then(mut self, expected: impl IntoIterator<Item = A::Event>) -> Given<A>
    where
        A::Event: Debug,
    {
        let expected: Vec<String> = expected
            .into_iter()
            .map(|event| format!("{:?}", stored_and_read(&event)))
            .collect();
        match self.decided {
            Ok(events) => {
                let decided: Vec<A::Event> = events.iter().map(stored_and_read).collect();
                let shown: Vec<String> = decided.iter().map(|event| format!("{event:?}")).collect();
                assert_eq!(shown, expected, "the command decided otherwise");
                decided.iter().for_each(|event| self.state.apply(event));
                Given { state: self.state }
            }
            Err(rejection) => {
                panic!("expected {expected:?}, but the command was rejected: {rejection:?}")
            }
        }
    }

    /// Checks that the command decided that nothing shall happen.
    ///
    /// # Panics
    /// When it decided otherwise.
    #[track_caller]
    pub fn then_nothing(self) -> Given<A>
    where
        A::Event: Debug,
    {
        self.then([])
    }

    /// Checks that the command was rejected, and why.
    ///
    /// # Panics
    /// When it was not, or for another reason.
    #[track_caller]
    pub fn then_rejected(self, expected: R)
    where
        R: PartialEq,
        A::Event: Debug,
    {
        match self.decided {
            Err(rejection) => assert_eq!(rejection, expected, "rejected for another reason"),
            Ok(events) => {
                panic!("expected the rejection {expected:?}, but the command decided {events:?}")
            }
        }
    }
}

#[track_caller]
fn stored_and_read<E: EventData>(event: &E) -> E {
    let kind = event.kind();
    let json = event
        .to_json()
        .unwrap_or_else(|e| panic!("event {:?} cannot be stored: {e}", kind.event_type));
    decode_stored(
        kind.event_type,
        kind.schema,
        JsonRef(json.as_str().as_bytes()),
    )
    .unwrap_or_else(|e| {
        panic!(
            "event {:?} cannot be read back from {}: {e}",
            kind.event_type,
            json.as_str()
        )
    })
}
