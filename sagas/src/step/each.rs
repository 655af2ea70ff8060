//! [`for_each`]: one request for every item of a list that only the running instance knows.

use std::marker::PhantomData;
use std::sync::Arc;

use mire_client::EventData;

use super::Task;
use super::draft::{ActionDraft, Emits};
use crate::decide::{IntoDecision as _, NoOutput};
use crate::emit::Emit;
use crate::extract::{Extract, InStep, Requirement, Type};
use crate::saga::Saga;
use crate::topology::{Context, Fault};

/// The kind of a step that makes one request `R` for each item of a list.
#[derive(Debug)]
pub struct Each<R>(PhantomData<fn() -> R>);

/// A function of 0 to 8 parameters (see [`Extract`]) that returns a list.
#[diagnostic::on_unimplemented(
    message = "this function gives no list of items",
    note = "it is synchronous, has 0 to 8 parameters that implement `Extract`, and returns something to iterate over"
)]
#[allow(private_bounds)] // sealed
pub trait Lists<S, Args>: Listing<S, Args, Of = Self::Item> {
    /// What the list is of.
    type Item;
}

pub(crate) trait Listing<S, Args>: Send + Sync + 'static {
    type Of;
    fn requires(all: &mut Vec<Requirement>);
    fn list(&self, context: &Context<'_>) -> Result<Vec<Self::Of>, Fault>;
}

/// A step that fans out over a list and joins: `list` says over what, `request` makes the request for one item, and
/// the step completes when all of them are answered. [`Task::on_each_response`] says what its output is. Over an empty
/// list it completes at once.
///
/// ```
/// # use mire_client::EventData;
/// # use serde::{Deserialize, Serialize};
/// use mire_sagas::{Output, Req, Saga, SagaBuilder, State, for_each, task};
///
/// # #[derive(Serialize, Deserialize)]
/// # struct Order { items: Vec<String> }
/// # #[derive(Serialize, Deserialize, EventData)]
/// # #[event_data(event_type = "item.hold")]
/// # struct HoldItem { item: String }
/// # #[derive(Serialize, Deserialize, EventData)]
/// # #[event_data(event_type = "item.held")]
/// # struct ItemHeld { hold: String }
/// # async fn hold(Req(r): Req<HoldItem>) -> ItemHeld { ItemHeld { hold: r.item } }
/// # struct Selling;
/// # impl Saga for Selling {
/// # type State = Order;
/// # const NAME: &'static str = "selling";
/// fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
///     let items = |State(order): State<Order>| order.items;
///     let holds = for_each(items, |item| HoldItem { item })
///         .effect(hold)
///         .on_each_response(|held: ItemHeld| held.hold);
///     saga.step("hold", holds)
///         .step("count", task(|Output(holds): Output<Vec<String>>| holds.len()).after("hold").terminal_success())
/// }
/// # }
/// # Selling::topology()?;
/// # Ok::<(), mire_sagas::TopologyErrors>(())
/// ```
pub fn for_each<S, L, Args, R, F>(list: L, request: F) -> Task<S, Each<R>>
where
    S: Saga,
    L: Lists<S, Args>,
    F: Fn(L::Item) -> R + Send + Sync + 'static,
    R: EventData,
{
    let mut requires = Vec::new();
    L::requires(&mut requires);
    let decide = move |context: &Context<'_>| {
        let items = list.list(context)?;
        Emit::<R>::many(items.into_iter().map(&request)).into_decision()
    };
    let mut action = ActionDraft::of(Arc::new(decide), requires, Emits::these(R::KINDS));
    action.many = true;
    Task::new(action, Type::of::<NoOutput>())
}

macro_rules! functions {
    ($($arg:ident)*) => {
        impl<S, F, V, $($arg,)*> Lists<S, ($($arg,)*)> for F
        where
            F: Fn($($arg),*) -> V + Send + Sync + 'static,
            V: IntoIterator,
            $($arg: Extract<S, InStep>,)*
        {
            type Item = V::Item;
        }

        impl<S, F, V, $($arg,)*> Listing<S, ($($arg,)*)> for F
        where
            F: Fn($($arg),*) -> V + Send + Sync + 'static,
            V: IntoIterator,
            $($arg: Extract<S, InStep>,)*
        {
            type Of = V::Item;

            fn requires(_all: &mut Vec<Requirement>) {
                $($arg::requires(_all);)*
            }

            fn list(&self, _context: &Context<'_>) -> Result<Vec<V::Item>, Fault> {
                Ok(self($($arg::read(_context)?),*).into_iter().collect())
            }
        }
    };
}

crate::arity::each_arity!(functions);
