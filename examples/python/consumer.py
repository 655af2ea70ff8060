"""A consumer in Python: a read model of account balances that is never wrong. Run as many as you like: one works, the
others wait for it to go. DATABASE_URL says where; needs psycopg 3."""

import os
import time

import psycopg

ADD = """INSERT INTO balances AS b VALUES (%s, %s)
         ON CONFLICT (account) DO UPDATE SET cents = b.cents + excluded.cents"""


def follow(db, fence):
    """Fetch, update the read model, checkpoint, in one transaction: both move, or neither."""
    while True:
        with db.transaction():
            page = db.execute(
                "SELECT position, stream, type, data, next_position FROM mire.fetch_events('balances', 0, %s)", [fence]
            ).fetchall()
            for position, stream, kind, data, _ in page:
                if kind in ("deposited", "withdrawn"):
                    db.execute(ADD, [stream, data["cents"] if kind == "deposited" else -data["cents"]])
            position, *_, go_on_after = page[-1]
            db.execute("SELECT mire.checkpoint('balances', 0, %s, %s)", [fence, go_on_after])
        if position is None:  # Nothing new: sleep until there is, shorter than the ttl.
            db.execute("CALL mire.wait_for_events(%s, '10 s')", [go_on_after])


with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as db:
    db.execute("CREATE TABLE IF NOT EXISTS balances (account text PRIMARY KEY, cents bigint NOT NULL)")
    db.execute("SELECT mire.create_subscription('balances', categories => '{account}')")
    while True:
        acquired, fence = db.execute(
            "SELECT acquired, fence FROM mire.acquire_subscription('balances', 0, %s, '30 s')", [str(os.getpid())]
        ).fetchone()
        try:
            follow(db, fence) if acquired else time.sleep(1)
        except psycopg.Error as error:
            if error.sqlstate != "MI003":  # Replaced: what was not committed is undone; stand by again.
                raise
