//! [`Answer`]: what somebody outside says to a request.

use crate::error::{Error, Result};
use crate::response::{Encode, IntoResponse};
use crate::storage::AnswerItem;
use crate::topology::Response;

/// What somebody outside says to a step's request.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Answer {
    pub(crate) answer: Result<Response, String>,
    pub(crate) undo: bool,
    pub(crate) activation: Option<u32>,
    pub(crate) request: u32,
    pub(crate) id: Option<String>,
}

impl Answer {
    /// A good answer: an event, [`Data`](crate::Data), or nothing.
    ///
    /// # Errors
    /// [`Error::Encode`] when it cannot be JSON.
    pub fn response<M>(response: impl IntoResponse<M>) -> Result<Self> {
        let response = Encode::encode(response);
        Ok(Self::of(Ok(
            response.map_err(|error| Error::encode("a response", error))?
        )))
    }

    /// What was asked for failed: so does the step.
    pub fn failure(error: impl Into<String>) -> Self {
        Self::of(Err(error.into()))
    }

    pub(crate) fn of(answer: Result<Response, String>) -> Self {
        Self {
            answer,
            undo: false,
            activation: None,
            request: 0,
            id: None,
        }
    }

    /// The type of the response, where its own does not say it and a step may be answered by several.
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        if let Ok(response) = &mut self.answer {
            response.kind = Some(kind.into());
        }
        self
    }

    /// Answers the step's undo.
    pub fn undo(mut self) -> Self {
        self.undo = true;
        self
    }

    /// Answers this activation (from 1) only; whichever is active if not said.
    pub fn activation(mut self, activation: u32) -> Self {
        self.activation = Some(activation);
        self
    }

    /// Answers this one of several requests, from 0, in the order in which they were emitted.
    pub fn request(mut self, request: u32) -> Self {
        self.request = request;
        self
    }

    /// Answers of one id count once, however often they are delivered.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    pub(crate) fn item<'a>(&'a self, id: &'a str) -> AnswerItem<'a> {
        match &self.answer {
            Ok(Response { kind, data }) => AnswerItem {
                ok: true,
                kind: kind.as_deref(),
                data: Some(data),
                error: None,
                id: Some(id),
            },
            Err(error) => AnswerItem {
                ok: false,
                kind: None,
                data: None,
                error: Some(error),
                id: Some(id),
            },
        }
    }
}
