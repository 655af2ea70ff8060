//! Older names and shapes are turned into today's before they are folded.

use futures_util::TryStreamExt;
use mire_client::{
    Aggregate, AggregateRoot, BoxError, EventData, ExpectedVersion, Metadata, NewEvent, OldEvent,
    ReadAll, ReadStream,
};
use serde::{Deserialize, Serialize};

use super::common::{Account, deposited, fixture};

/// As it was written years ago.
mod yesterday {
    use super::{Deserialize, EventData, Serialize};

    #[derive(Debug, Serialize, Deserialize, EventData)]
    #[event_data(entity = "parcel")]
    pub(super) enum ParcelEvent {
        Weighed {
            pounds: f64,
        },
        #[event_data(schema = 2)]
        Measured {
            size: String,
        },
        HandedOver(String),
        Lost,
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize, EventData)]
#[event_data(entity = "parcel", upcast = upcast)]
enum ParcelEvent {
    #[event_data(schema = 2)]
    Weighed { grams: i64 },
    #[event_data(schema = 3)]
    Measured { length: u32, width: u32 },
    #[event_data(rename = "delivered", alias = "parcel.handed-over")]
    Delivered(String),
    #[event_data(event_type = "parcel-lost", alias = "parcel.lost")]
    Lost {
        #[serde(default)]
        insured: bool,
    },
}

fn upcast(mut old: OldEvent) -> Result<OldEvent, BoxError> {
    match (old.event_type.as_str(), old.schema) {
        ("parcel.weighed", 1) => {
            let pounds = old.data["pounds"].as_f64().ok_or("no pounds")?;
            old.data = serde_json::json!({ "grams": (pounds * 453.592).round() as i64 });
        }
        // One step at a time: it is called again.
        ("parcel.measured", 1) => old.data = serde_json::json!({ "size": "1x1" }),
        ("parcel.measured", 2) => {
            let size = old.data["size"].as_str().ok_or("no size")?;
            let (length, width) = size.split_once('x').ok_or("no x")?;
            old.data = serde_json::json!({ "length": length.parse::<u32>()?, "width": width.parse::<u32>()? });
        }
        _ => return Ok(old),
    }
    old.schema += 1;
    Ok(old)
}

#[derive(Debug, Default, PartialEq)]
struct Parcel(Vec<String>);

impl Aggregate for Parcel {
    type Event = ParcelEvent;
    const CATEGORY: &'static str = "parcel";

    fn apply(&mut self, event: &ParcelEvent) {
        self.0.push(format!("{event:?}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn yesterdays_events_are_folded_as_todays() {
    use yesterday::ParcelEvent as Old;
    let f = fixture().await;
    let written = [
        Old::Weighed { pounds: 2.0 },
        Old::Measured {
            size: "30x20".into(),
        },
        Old::HandedOver("Ada".into()),
        Old::Lost,
    ];
    let events = written.iter().map(|event| NewEvent::new(event).unwrap());
    f.store
        .append("parcel-1", ExpectedVersion::NoStream, events)
        .await
        .unwrap();
    let oldest = NewEvent::untyped("parcel.measured", &serde_json::json!({})).unwrap();
    f.store
        .append("parcel-1", ExpectedVersion::Exists, [oldest])
        .await
        .unwrap();

    let mut parcel = f.store.load::<Parcel>("1").await.unwrap();
    let expected = [
        "Weighed { grams: 907 }",
        "Measured { length: 30, width: 20 }",
        "Delivered(\"Ada\")",
        "Lost { insured: false }",
        "Measured { length: 1, width: 1 }",
    ];
    assert_eq!(parcel.state().0, expected);

    parcel.record(ParcelEvent::Weighed { grams: 5 });
    f.store.save(&mut parcel).await.unwrap();
    assert_eq!(
        f.store.load::<Parcel>("1").await.unwrap().state(),
        parcel.state()
    );
    let stored: String = f
        .session()
        .await
        .query_one(
            "SELECT metadata::text FROM mire.events WHERE version = 6",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(stored, r#"{"$schema": 2}"#);

    let page = f.store.read_page(&ReadAll::new()).await.unwrap();
    assert_eq!(
        page.events[0].event.decode::<ParcelEvent>().unwrap(),
        ParcelEvent::Weighed { grams: 907 }
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tomorrows_events_are_refused_and_not_misread() {
    let f = fixture().await;
    #[derive(Debug, Serialize, Deserialize, EventData)]
    #[event_data(entity = "parcel")]
    enum Tomorrow {
        #[event_data(schema = 9)]
        Weighed { grams: String },
    }
    let event = NewEvent::new(&Tomorrow::Weighed {
        grams: "many".into(),
    })
    .unwrap();
    f.store
        .append("parcel-1", ExpectedVersion::NoStream, [event])
        .await
        .unwrap();
    let error = f.store.load::<Parcel>("1").await.unwrap_err();
    assert!(
        error.is_decode() && error.to_string().contains("schema version 9"),
        "{error}"
    );
}

#[test]
fn what_is_stored_is_a_variants_content_alone() {
    #[derive(Debug, PartialEq, Serialize, Deserialize, EventData)]
    #[event_data(entity = "shape")]
    #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
    enum Shape {
        Unit,
        NewType(Vec<u8>),
        Tuple(u8, String),
        #[serde(rename_all = "camelCase")]
        Struct {
            some_field: Option<u8>,
            #[serde(skip)]
            forgotten: u8,
        },
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize, EventData)]
    struct PaymentReceived {
        cents: i64,
    }
    for (event, event_type, json) in [
        (Shape::Unit, "shape.unit", "{}"),
        (Shape::NewType(vec![1, 2]), "shape.new-type", "[1,2]"),
        (Shape::Tuple(1, "x".into()), "shape.tuple", r#"[1,"x"]"#),
        (
            Shape::Struct {
                some_field: Some(3),
                forgotten: 0,
            },
            "shape.struct",
            r#"{"someField":3}"#,
        ),
    ] {
        assert_eq!(event.kind().event_type, event_type);
        assert_eq!(event.to_json().unwrap().as_str(), json);
        assert_eq!(
            Shape::from_json(event.kind_index(), json.as_bytes()).unwrap(),
            event
        );
    }
    assert_eq!(
        Shape::from_json(0, b"{\"once\": 1}").unwrap(),
        Shape::Unit,
        "a variant that has lost its fields"
    );
    assert!(Shape::from_json(2, b"{}").is_err());
    let event = PaymentReceived { cents: 5 };
    assert_eq!(event.kind().event_type, "payment-received");
    assert_eq!(
        PaymentReceived::from_json(0, event.to_json().unwrap().as_str().as_bytes()).unwrap(),
        event
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_that_is_handed_on_says_nothing_about_the_shape_of_another_event() {
    let f = fixture().await;
    let old = NewEvent::new(&yesterday::ParcelEvent::Measured { size: "L".into() }).unwrap();
    let old = old.with_metadata(&Metadata::new().actor("bob")).unwrap();
    f.store
        .append("parcel-1", ExpectedVersion::Any, [old])
        .await
        .unwrap();
    let read = f.store.read_stream("parcel-1", ReadStream::new());
    let read: Vec<_> = read.try_collect().await.unwrap();
    let stored = read[0].metadata.as_ref().unwrap();
    assert!(stored.as_str().contains("$schema"));

    let mut account = AggregateRoot::<Account>::new(1);
    account.set_metadata(stored.to::<Metadata>().unwrap());
    account.record(deposited(1));
    f.store.save(&mut account).await.unwrap();
    assert_eq!(f.store.load::<Account>(1).await.unwrap().state().cents, 1);
    let read = f.store.read_stream(account.stream(), ReadStream::new());
    let read: Vec<_> = read.try_collect().await.unwrap();
    assert_eq!(read[0].metadata().unwrap().who(), Some("bob"));
}
