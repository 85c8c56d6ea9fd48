-- The tables of devicegrant in PostgreSQL 12 or later. Times and intervals are
-- microseconds: times since 1970-01-01 00:00 UTC, so that no time zone shifts them.
--
-- Another prefix than devicegrant_ goes through the whole file.

CREATE TABLE IF NOT EXISTS devicegrant_schema (
    version integer PRIMARY KEY
);

-- Grants, and what people decided of them.
CREATE TABLE IF NOT EXISTS devicegrant_grants (
    device_code  bytea    PRIMARY KEY,     -- SHA-256 of the device code
    user_code    bytea    UNIQUE,          -- HMAC of the user code; NULL once it is free
    id           uuid     NOT NULL,        -- names the grant in logs and events
    client_id    text     NOT NULL,
    scope        text     NOT NULL,
    resource     text     NOT NULL,        -- URIs where the tokens are to be used, with spaces between
    authorization_details text NOT NULL,   -- JSON, byte for byte as it was sent; '' if none was
    token_hint   text     NOT NULL,        -- what the host's policy has to say to its own token issuing
    device_name  text     NOT NULL,        -- what the device says of itself
    device_agent text     NOT NULL,        -- its User-Agent
    device_addr  text     NOT NULL,        -- the address that asked; '' if there was none
    state        smallint NOT NULL,        -- 1 pending, 2 approved, 3 denied, 4 redeeming, 5 redeemed
    subject      text     NOT NULL,        -- who decided; '' before
    session      bytea,                    -- SHA-256 of the browser's that entered the code first
    entered      smallint NOT NULL,        -- how often the code was entered
    created_at   bigint   NOT NULL,
    expires_at   bigint   NOT NULL,
    version      bigint   NOT NULL,        -- counts the writes
    receipt      bytea,                    -- the sealed answer, until the device has it
    interval_us  bigint   NOT NULL,        -- how it was polled when it was created
    on_time      bigint,
    last_poll    bigint,
    repeated     boolean  NOT NULL
);

CREATE INDEX IF NOT EXISTS devicegrant_grants_expires_at ON devicegrant_grants (expires_at);

-- How devices poll. It is unlogged, because losing it in a crash harms nobody, and
-- apart from the grants, so that no poll touches a decision. Pages are left half
-- free, for a row to be updated where it is.
CREATE UNLOGGED TABLE IF NOT EXISTS devicegrant_polls (
    device_code bytea   PRIMARY KEY,
    expires_at  bigint  NOT NULL,         -- the grant's, to find orphans
    interval_us bigint  NOT NULL,         -- the interval in force
    on_time     bigint  NOT NULL,         -- the last poll that was not early
    last_poll   bigint  NOT NULL,         -- the last poll
    repeated    boolean NOT NULL          -- whether the last poll came twice
) WITH (fillfactor = 50);

CREATE INDEX IF NOT EXISTS devicegrant_polls_expires_at ON devicegrant_polls (expires_at);

-- What counts against the limits on guessing. It is unlogged, because all that is lost in
-- a crash is a count of wrong guesses.
CREATE UNLOGGED TABLE IF NOT EXISTS devicegrant_tallies (
    id         bytea  PRIMARY KEY,        -- digest of what is limited
    guesses    bigint NOT NULL,
    paid_at    bigint NOT NULL,           -- when all but these guesses is forgotten
    expires_at bigint NOT NULL,           -- when it means nothing any more
    version    bigint NOT NULL            -- counts the writes
);

CREATE INDEX IF NOT EXISTS devicegrant_tallies_expires_at ON devicegrant_tallies (expires_at);

INSERT INTO devicegrant_schema (version) VALUES (1) ON CONFLICT DO NOTHING;
