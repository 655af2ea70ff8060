//! History that was set back under a runner that remembers it: the database was restored to an earlier moment.

use mire_sagas::SagaStatus;

use super::common::{Reference, SOON, fixture, seat};

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_knows_more_than_the_log_believes_the_log() {
    let f = fixture().await;
    let runner = f.runner::<Reference>();
    runner.start("1", "Rome".into()).await.unwrap();
    runner.deliver("1", "flight", seat(1)).await.unwrap();
    let set_back = "ALTER TABLE mire.events DISABLE TRIGGER USER;
        DELETE FROM mire.events WHERE version > 1;
        ALTER TABLE mire.events ENABLE TRIGGER USER;
        UPDATE mire.stream_heads SET version = 1;
        UPDATE mire.sagas SET steps = '{flight}';
        SELECT mire.new_epoch()";
    f.session().await.batch_execute(set_back).await.unwrap();
    let told = async {
        runner.deliver("1", "hotel", seat(2)).await.unwrap();
        runner.deliver("1", "flight", seat(1)).await.unwrap();
    };
    tokio::time::timeout(SOON, told).await.unwrap();
    assert_eq!(runner.status("1").await.unwrap(), SagaStatus::Completed);
}
