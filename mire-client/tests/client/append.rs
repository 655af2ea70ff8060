//! Appending: every expected version, what is refused, and that nothing is half-written.

use mire_client::{ExpectedVersion, Json, Metadata, NewEvent, sqlstate};

use super::common::{exactly, fixture, fixture_with, note};

#[tokio::test(flavor = "multi_thread")]
async fn every_expected_version_means_what_it_says() {
    for builder in [
        mire_client::EventStore::builder(),
        mire_client::EventStore::builder().without_shared_commits(),
    ] {
        let f = fixture_with(builder).await;
        let append = |expected| f.store.append("note-1", expected, [note(1)]);

        let missing = append(ExpectedVersion::Exists).await.unwrap_err();
        assert!(missing.is_not_found() && missing.sqlstate() == Some(sqlstate::STREAM_NOT_FOUND));
        let ahead = append(exactly(3)).await.unwrap_err();
        assert_eq!(ahead.conflict().unwrap().actual, Some(0));

        assert_eq!(append(ExpectedVersion::NoStream).await.unwrap().version, 1);
        let exists = append(ExpectedVersion::NoStream).await.unwrap_err();
        assert!(exists.is_conflict() && !exists.is_retryable());
        assert_eq!(exists.sqlstate(), Some(sqlstate::VERSION_CONFLICT));
        let conflict = exists.conflict().unwrap();
        assert_eq!(
            (&*conflict.stream, conflict.expected, conflict.actual),
            ("note-1", Some(0), Some(1))
        );

        assert_eq!(append(exactly(1)).await.unwrap().version, 2);
        assert_eq!(append(ExpectedVersion::Exists).await.unwrap().version, 3);
        assert_eq!(append(ExpectedVersion::Any).await.unwrap().version, 4);
        assert_eq!(f.store.stream_version("note-1").await.unwrap(), 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_recorded_is_told() {
    let f = fixture().await;
    let events = [note(1), note(2), note(3)];
    let ids: Vec<_> = events.iter().map(NewEvent::id).collect();
    let recorded = f
        .store
        .append("note-1", ExpectedVersion::Any, events)
        .await
        .unwrap();
    assert_eq!(recorded.versions(), 1..=3);
    assert_eq!(recorded.ids, ids);
    let last = f.number("SELECT max(position) FROM mire.events").await;
    assert_eq!(recorded.position, Some(last));
    assert!(!recorded.duplicate);

    let nothing = f.store.append("note-1", exactly(3), []).await.unwrap();
    assert_eq!(
        (
            nothing.version,
            nothing.position,
            nothing.versions().count()
        ),
        (3, None, 0)
    );
    assert!(
        f.store
            .append("note-1", exactly(2), [])
            .await
            .unwrap_err()
            .is_conflict()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_events_again_get_the_first_answer() {
    let f = fixture().await;
    let events = [note(1), note(2)];
    let first = f
        .store
        .append("note-1", ExpectedVersion::NoStream, events.clone())
        .await
        .unwrap();
    let again = f
        .store
        .append("note-1", ExpectedVersion::NoStream, events.clone())
        .await
        .unwrap();
    assert!(again.duplicate);
    assert_eq!(
        (again.version, again.position),
        (first.version, first.position)
    );
    let partly = [events[0].clone(), note(3)];
    assert!(
        f.store
            .append("note-1", ExpectedVersion::NoStream, partly)
            .await
            .unwrap_err()
            .is_conflict()
    );
    assert_eq!(f.event_ids().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_creators_of_one_stream_have_one_winner() {
    let f = fixture().await;
    let append = |n| {
        f.store
            .append("note-1", ExpectedVersion::NoStream, [note(n)])
    };
    let outcomes = futures_util::future::join_all((0..16).map(append)).await;
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1);
    assert!(
        outcomes
            .iter()
            .filter_map(|o| o.as_ref().err())
            .all(mire_client::Error::is_conflict)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_and_writes_nothing() {
    let f = fixture().await;
    let too_large = NewEvent::untyped("note.taken", &"x".repeat(2 << 20)).unwrap();
    let no_number = NewEvent::untyped("note.taken", &Json::from_text("1e400000").unwrap()).unwrap();
    let reserved = NewEvent::untyped("$note", &1).unwrap();
    for (stream, event) in [
        ("note-1", too_large),
        ("note-1", no_number),
        ("note-1", reserved),
        ("", note(1)),
        ("$mine", note(1)),
        ("line\nbreak", note(1)),
    ] {
        let error = f
            .store
            .append(stream, ExpectedVersion::Any, [event])
            .await
            .unwrap_err();
        assert!(error.is_invalid(), "{stream:?}: {error:?}");
        assert!(error.sqlstate().is_some());
    }
    assert!(
        NewEvent::untyped("note.taken", &"nul \0")
            .unwrap_err()
            .is_invalid()
    );
    assert!(f.event_ids().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_negative_version_is_refused_and_not_taken_for_must_exist() {
    let f = fixture().await;
    let expected = ExpectedVersion::Exactly(-1);
    let refused = f.store.append("note-1", expected, [note(1)]).await;
    assert!(refused.unwrap_err().is_invalid());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_stream_takes_nothing_more() {
    let f = fixture().await;
    f.store
        .append("note-1", ExpectedVersion::Any, [note(1)])
        .await
        .unwrap();
    f.store.delete_stream("note-1", exactly(1)).await.unwrap();
    let error = f
        .store
        .append("note-1", ExpectedVersion::Any, [note(2)])
        .await
        .unwrap_err();
    assert!(error.is_deleted());
    assert_eq!(error.sqlstate(), Some(sqlstate::STREAM_DELETED));
    assert!(f.store.stream_exists("note-1").await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_comes_back_as_it_was_given() {
    let f = fixture().await;
    let metadata = Metadata::new()
        .correlation_id("c1")
        .causation_id("e7")
        .actor("ada")
        .with("tenant", &7)
        .unwrap();
    let event = note(1).with_metadata(&metadata).unwrap();
    f.store
        .append("note-1", ExpectedVersion::Any, [event])
        .await
        .unwrap();
    let page = f
        .store
        .read_page(&mire_client::ReadAll::new())
        .await
        .unwrap();
    assert_eq!(page.events[0].event.metadata().unwrap(), metadata);
}
