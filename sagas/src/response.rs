//! Answers: what an effect returns ([`IntoResponse`]), and how an answer becomes an output ([`FromResponse`],
//! [`OnResponse`]).

use std::fmt::Display;
use std::sync::Arc;

use mire_client::{EventData, EventKind};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::emit::to_value;
use crate::extract::{Type, why_of};
use crate::topology::{Refusal, RespondFn, Response};

/// An answer of any serialisable type, where [`EventData`] would say too much: told by its shape, not by the name of its
/// type.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// use mire_sagas::Data;
///
/// #[derive(Serialize, Deserialize)]
/// enum Seat {
///     Held { row: u32 },
///     SoldOut,
/// }
///
/// // In an effect: `async fn hold(..) -> Data<Seat>`; on the step:
/// let map = |Data(seat): Data<Seat>| matches!(seat, Seat::Held { .. });
/// assert!(!map(Data(Seat::SoldOut)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Data<T>(pub T);

/// Marks answers that are events.
#[derive(Debug)]
pub struct AsEvent(());

/// Marks answers that are plain data, or nothing.
#[derive(Debug)]
pub struct AsData(());

/// Marks answers that are one of two.
#[derive(Debug)]
pub struct AsResult(());

/// Which answers a function takes or gives, by event type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answers {
    Events(Vec<&'static EventKind>),
    Data(Type),
}

impl Answers {
    fn events<E: EventData>() -> Self {
        Self::Events(E::KINDS.iter().collect())
    }

    /// Whether an answer of that type may be one of these.
    pub(crate) fn include(&self, name: &str) -> bool {
        match self {
            Self::Events(kinds) => kinds.iter().any(|kind| is_called(kind, name)),
            Self::Data(_) => true,
        }
    }
}

/// Whether an event type goes, or went, by this name.
pub(crate) fn is_called(kind: &EventKind, name: &str) -> bool {
    kind.event_type == name || kind.aliases.contains(&name)
}

/// What an effect can answer: an event, [`Data`], or nothing.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is nothing that an effect can answer",
    note = "answer a `#[derive(EventData)]` type, `Data(value)` for anything serialisable, or `()`"
)]
#[allow(private_bounds)] // sealed
pub trait IntoResponse<M>: Encode<M> {}

pub(crate) trait Encode<M> {
    fn answers() -> Answers;
    fn encode(self) -> Result<Response, String>;
}

impl<E: EventData> IntoResponse<AsEvent> for E {}
impl<E: EventData> Encode<AsEvent> for E {
    fn answers() -> Answers {
        Answers::events::<E>()
    }

    fn encode(self) -> Result<Response, String> {
        Ok(Response {
            kind: Some(self.kind().event_type.to_owned()),
            data: to_value(&self)?,
        })
    }
}

impl<T: Serialize + 'static> IntoResponse<AsData> for Data<T> {}
impl<T: Serialize + 'static> Encode<AsData> for Data<T> {
    fn answers() -> Answers {
        Answers::Data(Type::of::<T>())
    }

    fn encode(self) -> Result<Response, String> {
        Ok(Response {
            kind: None,
            data: serde_json::to_value(self.0).map_err(|e| e.to_string())?,
        })
    }
}

impl IntoResponse<AsData> for () {}
impl Encode<AsData> for () {
    fn answers() -> Answers {
        Answers::Data(Type::of::<()>())
    }

    fn encode(self) -> Result<Response, String> {
        Ok(Response {
            kind: None,
            data: Value::Null,
        })
    }
}

/// What an answer can be read as: one event type (an enum: any of its events), [`Data`] of any shape, or a `Result` of
/// two event types.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is nothing that an answer can be read as",
    note = "there are `#[derive(EventData)]` types, `Data<T>` for anything deserialisable, and `Result<E1, E2>` of two event types"
)]
#[allow(private_bounds)] // sealed
pub trait FromResponse<M>: Decode<M> {}

pub(crate) trait Decode<M>: Sized {
    fn answers() -> Answers;
    fn decode(response: &Response) -> Result<Self, String>;
}

impl<E: EventData> FromResponse<AsEvent> for E {}
impl<E: EventData> Decode<AsEvent> for E {
    fn answers() -> Answers {
        Answers::events::<E>()
    }

    fn decode(response: &Response) -> Result<Self, String> {
        event_from(response.kind.as_deref(), &response.data)
    }
}

impl<T: DeserializeOwned + 'static> FromResponse<AsData> for Data<T> {}
impl<T: DeserializeOwned + 'static> Decode<AsData> for Data<T> {
    fn answers() -> Answers {
        Answers::Data(Type::of::<T>())
    }

    fn decode(response: &Response) -> Result<Self, String> {
        let plain = T::deserialize(&response.data);
        let named = |kind: &String| {
            let mut named = serde_json::Map::new();
            named.insert(kind.clone(), response.data.clone());
            T::deserialize(Value::Object(named)).ok()
        };
        // An enum whose variants are called like the types of the answers.
        plain
            .or_else(|error| response.kind.as_ref().and_then(named).ok_or(error))
            .map(Self)
            .map_err(|e| format!("its data is no {}{}", Type::of::<T>(), why_of(&e)))
    }
}

impl<A: EventData, B: EventData> FromResponse<AsResult> for Result<A, B> {}
impl<A: EventData, B: EventData> Decode<AsResult> for Result<A, B> {
    fn answers() -> Answers {
        Answers::Events(A::KINDS.iter().chain(B::KINDS).collect())
    }

    fn decode(response: &Response) -> Result<Self, String> {
        let kind = response.kind.as_deref().ok_or_else(|| {
            let (a, b) = (Type::of::<A>(), Type::of::<B>());
            format!("it has no type, which would say whether it is a {a} or a {b}")
        })?;
        if B::KINDS.iter().any(|known| is_called(known, kind)) {
            return event_from(Some(kind), &response.data).map(Err);
        }
        event_from(Some(kind), &response.data).map(Ok)
    }
}

/// Reads an event from its type's name and its data. Without a name there is only one that it can be.
pub(crate) fn event_from<E: EventData>(kind: Option<&str>, data: &Value) -> Result<E, String> {
    let name = Type::of::<E>();
    let index = match kind {
        Some(kind) => E::KINDS
            .iter()
            .position(|known| is_called(known, kind))
            .ok_or_else(|| format!("its type {kind:?} is none of {name}"))?,
        None if E::KINDS.len() == 1 => 0,
        None => return Err(format!("it has no type, which would say what {name} it is")),
    };
    E::from_json(index, data.to_string().as_bytes())
        .map_err(|e| format!("its data is no {name}{}", why_of(&e)))
}

/// A function that turns an answer into an output.
///
/// | the answer is read as | the function returns |
/// |---|---|
/// | an event type `E`; an enum is any of its events | the output |
/// | [`Data<T>`](Data), of any shape | the output |
/// | `Result<E1, E2>`, by the type of the answer | `Result<output, why>`; an error fails the step |
#[diagnostic::on_unimplemented(
    message = "this function turns no answer into an output",
    note = "it takes one `#[derive(EventData)]` type, `Data<T>`, or a `Result` of two event types (and then returns a `Result` whose error is Display)",
    note = "the output is Serialize; a function that can fail on an event goes to `try_on_response`"
)]
#[allow(private_bounds)] // sealed
pub trait OnResponse<M>: Respond<M> {
    /// What the answer comes to.
    type Output: Serialize + 'static;
}

pub(crate) trait Respond<M>: Send + Sync + 'static {
    fn answers() -> Answers;
    fn respond(&self, response: &Response) -> Result<Value, Refusal>;
}

impl<F, T, O> OnResponse<(AsEvent, T, O)> for F
where
    F: Fn(T) -> O + Send + Sync + 'static,
    T: FromResponse<AsEvent>,
    O: Serialize + 'static,
{
    type Output = O;
}

impl<F, T, O> Respond<(AsEvent, T, O)> for F
where
    F: Fn(T) -> O + Send + Sync + 'static,
    T: FromResponse<AsEvent>,
    O: Serialize + 'static,
{
    fn answers() -> Answers {
        T::answers()
    }

    fn respond(&self, response: &Response) -> Result<Value, Refusal> {
        output(&self(read(response)?))
    }
}

impl<F, T, O> OnResponse<(AsData, T, O)> for F
where
    F: Fn(Data<T>) -> O + Send + Sync + 'static,
    T: DeserializeOwned + 'static,
    O: Serialize + 'static,
{
    type Output = O;
}

impl<F, T, O> Respond<(AsData, T, O)> for F
where
    F: Fn(Data<T>) -> O + Send + Sync + 'static,
    T: DeserializeOwned + 'static,
    O: Serialize + 'static,
{
    fn answers() -> Answers {
        Data::<T>::answers()
    }

    fn respond(&self, response: &Response) -> Result<Value, Refusal> {
        output(&self(read(response)?))
    }
}

impl<F, A, B, O, X> OnResponse<(AsResult, A, B, O, X)> for F
where
    F: Fn(Result<A, B>) -> Result<O, X> + Send + Sync + 'static,
    A: EventData,
    B: EventData,
    O: Serialize + 'static,
    X: Display,
{
    type Output = O;
}

impl<F, A, B, O, X> Respond<(AsResult, A, B, O, X)> for F
where
    F: Fn(Result<A, B>) -> Result<O, X> + Send + Sync + 'static,
    A: EventData,
    B: EventData,
    O: Serialize + 'static,
    X: Display,
{
    fn answers() -> Answers {
        Result::<A, B>::answers()
    }

    fn respond(&self, response: &Response) -> Result<Value, Refusal> {
        or_fail(self(read(response)?))
    }
}

/// For a function that may say that the step failed.
pub(crate) fn trying<M, T, O, X, F>(map: F) -> RespondFn
where
    F: Fn(T) -> Result<O, X> + Send + Sync + 'static,
    T: FromResponse<M>,
    O: Serialize + 'static,
    X: Display,
{
    Arc::new(move |response| or_fail(map(read(response)?)))
}

/// For an undo: the answer is one of these, and that is all.
pub(crate) fn confirming<E: EventData>() -> RespondFn {
    Arc::new(|response| read::<E, AsEvent>(response).map(|_| response.data.clone()))
}

/// Whatever the answer is, it is fine.
pub(crate) fn accepting() -> RespondFn {
    Arc::new(|response| Ok(response.data.clone()))
}

fn read<T: Decode<M>, M>(response: &Response) -> Result<T, Refusal> {
    T::decode(response).map_err(Refusal::Unreadable)
}

fn or_fail<O: Serialize>(mapped: Result<O, impl Display>) -> Result<Value, Refusal> {
    output(&mapped.map_err(|why| Refusal::Failed(why.to_string()))?)
}

fn output(output: &impl Serialize) -> Result<Value, Refusal> {
    serde_json::to_value(output)
        .map_err(|e| Refusal::Unreadable(format!("the output is no JSON: {e}")))
}
