-- The tables of devicegrant in SQLite 3.37 or later. Times and intervals are
-- microseconds: times since 1970-01-01 00:00 UTC, so that no time zone shifts them.
--
-- Another prefix than devicegrant_ goes through the whole file.

CREATE TABLE IF NOT EXISTS devicegrant_schema (
    version INTEGER PRIMARY KEY
) STRICT;

-- Grants, and what people decided of them.
CREATE TABLE IF NOT EXISTS devicegrant_grants (
    device_code  BLOB    PRIMARY KEY NOT NULL, -- SHA-256 of the device code
    user_code    BLOB    UNIQUE,           -- HMAC of the user code; NULL once it is free
    id           BLOB    NOT NULL,         -- UUID that names the grant in logs and events
    client_id    TEXT    NOT NULL,
    scope        TEXT    NOT NULL,
    resource     TEXT    NOT NULL,         -- URIs where the tokens are to be used, with spaces between
    authorization_details TEXT NOT NULL,   -- JSON, byte for byte as it was sent; '' if none was
    token_hint   TEXT    NOT NULL,         -- what the host's policy has to say to its own token issuing
    device_name  TEXT    NOT NULL,         -- what the device says of itself
    device_agent TEXT    NOT NULL,         -- its User-Agent
    device_addr  TEXT    NOT NULL,         -- the address that asked; '' if there was none
    state        INTEGER NOT NULL,         -- 1 pending, 2 approved, 3 denied, 4 redeeming, 5 redeemed
    subject      TEXT    NOT NULL,         -- who decided; '' before
    session      BLOB,                     -- SHA-256 of the browser's that entered the code first
    entered      INTEGER NOT NULL,         -- how often the code was entered
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    version      INTEGER NOT NULL,         -- counts the writes
    receipt      BLOB,                     -- the sealed answer, until the device has it
    interval_us  INTEGER NOT NULL,         -- how it was polled when it was created
    on_time      INTEGER,
    last_poll    INTEGER,
    repeated     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS devicegrant_grants_expires_at ON devicegrant_grants (expires_at);

-- How devices poll, apart from the grants, so that no poll touches a decision.
CREATE TABLE IF NOT EXISTS devicegrant_polls (
    device_code BLOB    PRIMARY KEY NOT NULL,
    interval_us INTEGER NOT NULL,         -- the interval in force
    on_time     INTEGER NOT NULL,         -- the last poll that was not early
    last_poll   INTEGER NOT NULL,         -- the last poll
    repeated    INTEGER NOT NULL          -- whether the last poll came twice
) STRICT, WITHOUT ROWID;

CREATE TRIGGER IF NOT EXISTS devicegrant_purge AFTER DELETE ON devicegrant_grants
BEGIN DELETE FROM devicegrant_polls WHERE device_code = OLD.device_code; END;

-- What counts against the limits on guessing.
CREATE TABLE IF NOT EXISTS devicegrant_tallies (
    id         BLOB    PRIMARY KEY NOT NULL, -- digest of what is limited
    guesses    INTEGER NOT NULL,
    paid_at    INTEGER NOT NULL,          -- when all but these guesses is forgotten
    expires_at INTEGER NOT NULL,          -- when it means nothing any more
    version    INTEGER NOT NULL           -- counts the writes
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS devicegrant_tallies_expires_at ON devicegrant_tallies (expires_at);

INSERT OR IGNORE INTO devicegrant_schema (version) VALUES (1);
