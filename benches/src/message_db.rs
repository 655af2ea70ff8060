//! message-db: its SQL functions, from its own package.

use std::path::Path;

use anyhow::{Context, Result};

use crate::world::World;

pub(crate) const DATABASE: &str = "message_store";

/// In the order of its own install script, without views and privileges, which no append touches, and without the
/// extension pgcrypto, of which it uses nothing that PostgreSQL does not have by itself.
const FILES: [&str; 19] = [
    "roles/message-store",
    "schema/message-store",
    "tables/messages",
    "types/message",
    "functions/message-store-version",
    "functions/hash-64",
    "functions/acquire-lock",
    "functions/category",
    "functions/is-category",
    "functions/id",
    "functions/cardinal-id",
    "functions/stream-version",
    "functions/write-message",
    "functions/get-stream-messages",
    "functions/get-category-messages",
    "functions/get-last-stream-message",
    "indexes/messages-id",
    "indexes/messages-stream",
    "indexes/messages-category",
];

/// Makes its database from the package's `database` folder.
pub(crate) async fn install(world: &World, folder: &Path) -> Result<()> {
    world.create_database(DATABASE).await?;
    world
        .observer
        .batch_execute("ALTER DATABASE message_store SET search_path = message_store, public")
        .await?;
    let client = world.connect_to(DATABASE).await?;
    for name in FILES {
        let path = folder.join(name).with_extension("sql");
        let sql = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        client
            .batch_execute(&sql)
            .await
            .with_context(|| format!("{}", path.display()))?;
    }
    Ok(())
}
