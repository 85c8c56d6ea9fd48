-- The tables and procedures of devicegrant in MariaDB 10.6 or later, and MySQL 8.0.29
-- or later. Times and intervals are microseconds: times since 1970-01-01 00:00 UTC,
-- so that no time zone shifts them. Text is VARBINARY, so that no collation takes
-- two clients for one.
--
-- Another prefix than devicegrant_ goes through the whole file.

CREATE TABLE IF NOT EXISTS devicegrant_schema (
    version INT PRIMARY KEY
) ENGINE = InnoDB;

-- Grants, and what people decided of them.
CREATE TABLE IF NOT EXISTS devicegrant_grants (
    device_code  BINARY(32)      NOT NULL PRIMARY KEY, -- SHA-256 of the device code
    user_code    BINARY(32),               -- HMAC of the user code; NULL once it is free
    id           BINARY(16)      NOT NULL, -- UUID that names the grant in logs and events
    client_id    VARBINARY(1024) NOT NULL,
    scope        BLOB            NOT NULL,
    resource     BLOB            NOT NULL, -- URIs where the tokens are to be used, with spaces between
    authorization_details BLOB   NOT NULL, -- JSON, byte for byte as it was sent; '' if none was
    token_hint   VARBINARY(1024) NOT NULL, -- what the host's policy has to say to its own token issuing
    device_name  VARBINARY(256)  NOT NULL, -- what the device says of itself
    device_agent VARBINARY(512)  NOT NULL, -- its User-Agent
    device_addr  VARBINARY(64)   NOT NULL, -- the address that asked; '' if there was none
    state        TINYINT         NOT NULL, -- 1 pending, 2 approved, 3 denied, 4 redeeming, 5 redeemed
    subject      VARBINARY(1024) NOT NULL, -- who decided; '' before
    session      BINARY(32),               -- SHA-256 of the browser's that entered the code first
    entered      SMALLINT        NOT NULL, -- how often the code was entered
    created_at   BIGINT          NOT NULL,
    expires_at   BIGINT          NOT NULL,
    version      BIGINT          NOT NULL, -- counts the writes
    receipt      MEDIUMBLOB,               -- the sealed answer, until the device has it
    interval_us  BIGINT          NOT NULL, -- how it was polled when it was created
    on_time      BIGINT,
    last_poll    BIGINT,
    repeated     BOOLEAN         NOT NULL,
    UNIQUE KEY devicegrant_grants_user_code (user_code),
    KEY devicegrant_grants_expires_at (expires_at)
) ENGINE = InnoDB;

-- How devices poll. It is in memory, because losing it in a crash harms nobody, and
-- apart from the grants, so that no poll touches a decision. Its size is bounded by
-- max_heap_table_size; polls that find it full are answered and not recorded. Where
-- ENGINE = MEMORY is not to be had, InnoDB works too, with a durable write for each
-- poll.
CREATE TABLE IF NOT EXISTS devicegrant_polls (
    device_code BINARY(32) NOT NULL PRIMARY KEY,
    expires_at  BIGINT     NOT NULL,      -- the grant's, to find orphans
    interval_us BIGINT     NOT NULL,      -- the interval in force
    on_time     BIGINT,                   -- the last poll that was not early
    last_poll   BIGINT,                   -- the last poll
    repeated    BOOLEAN    NOT NULL,      -- whether the last poll came twice
    KEY devicegrant_polls_expires_at (expires_at) USING BTREE
) ENGINE = MEMORY;

-- What counts against the limits on guessing. It is not in memory like the polls: a table
-- that is full would keep people from entering their codes.
CREATE TABLE IF NOT EXISTS devicegrant_tallies (
    id         BINARY(32) NOT NULL PRIMARY KEY, -- digest of what is limited
    guesses    BIGINT     NOT NULL,
    paid_at    BIGINT     NOT NULL,       -- when all but these guesses is forgotten
    expires_at BIGINT     NOT NULL,       -- when it means nothing any more
    version    BIGINT     NOT NULL,       -- counts the writes
    KEY devicegrant_tallies_expires_at (expires_at)
) ENGINE = InnoDB;

DELIMITER //

-- Records a poll and returns the grant, or no row when this client has no such grant.
-- The pace is that of Pace.Next in polling.go.
CREATE PROCEDURE IF NOT EXISTS devicegrant_poll(in_code BINARY(32), in_client VARBINARY(1024), in_now BIGINT)
MODIFIES SQL DATA SQL SECURITY INVOKER
BEGIN
    DECLARE found BOOLEAN DEFAULT TRUE;
    DECLARE g_id BINARY(16);
    DECLARE g_state TINYINT;
    DECLARE g_expires_at, g_interval, g_on_time, g_last_poll BIGINT;
    DECLARE g_repeated BOOLEAN;
    DECLARE CONTINUE HANDLER FOR NOT FOUND SET found = FALSE;
    SELECT id, state, expires_at, interval_us, on_time, last_poll, repeated
        INTO g_id, g_state, g_expires_at, g_interval, g_on_time, g_last_poll, g_repeated
        FROM devicegrant_grants
        WHERE device_code = in_code AND client_id = in_client;
    IF found THEN
        SET @devicegrant_interval = g_interval, @devicegrant_on_time = in_now,
            @devicegrant_last_poll = in_now, @devicegrant_repeated = FALSE;
        BEGIN
            -- A poll that cannot be recorded is answered all the same, as one on time.
            DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;
            INSERT IGNORE INTO devicegrant_polls (device_code, expires_at, interval_us, on_time, last_poll, repeated)
                VALUES (in_code, g_expires_at, g_interval, g_on_time, g_last_poll, g_repeated);
            -- Assigned from left to right: only the first may look at the old columns
            -- of the others. The variables are this poll's alone.
            UPDATE devicegrant_polls SET
                interval_us = (@devicegrant_interval := IF((@devicegrant_kind := CASE
                    WHEN last_poll IS NULL THEN 'first'
                    WHEN ABS(in_now - last_poll) * 10 < LEAST(interval_us, 2500000) AND NOT repeated THEN 'same'
                    WHEN (in_now - last_poll) * 10 <= -LEAST(interval_us, 2500000) OR on_time IS NULL
                        OR (in_now - on_time) * 5 >= interval_us * 5 - LEAST(interval_us, 5000000) THEN 'on time'
                    ELSE 'early' END) = 'early',
                    GREATEST(interval_us, LEAST(interval_us + 5000000, 60000000)), interval_us)),
                on_time = (@devicegrant_on_time := IF(@devicegrant_kind IN ('first', 'on time'), in_now, on_time)),
                last_poll = (@devicegrant_last_poll := IF(@devicegrant_kind = 'same', last_poll, in_now)),
                repeated = (@devicegrant_repeated := CASE @devicegrant_kind
                    WHEN 'first' THEN repeated WHEN 'same' THEN TRUE ELSE FALSE END)
                WHERE device_code = in_code;
        END;
        SELECT g_id, g_state, g_expires_at,
            @devicegrant_interval, @devicegrant_on_time, @devicegrant_last_poll, @devicegrant_repeated;
    END IF;
END//

-- Records polls of several grants, each by its own client, and returns a row for each.
-- in_batch is a JSON array of objects: the device code in hexadecimal, when the poll came,
-- and the grant's deadline and interval as they are known. The pace is that of Pace.Next in
-- polling.go; a grant that nobody has polled since the table was emptied is on time. Where
-- other replicas poll a grant at the same moment, the pace is that after both.
CREATE PROCEDURE IF NOT EXISTS devicegrant_poll_many(in_batch LONGTEXT)
MODIFIES SQL DATA SQL SECURITY INVOKER
BEGIN
    DECLARE recorded BOOLEAN DEFAULT TRUE;
    BEGIN
        -- Polls that cannot be recorded are for devicegrant_poll.
        DECLARE CONTINUE HANDLER FOR SQLEXCEPTION SET recorded = FALSE;
        -- Assigned from left to right: only the first may look at the old columns of the
        -- others.
        INSERT INTO devicegrant_polls (device_code, expires_at, interval_us, on_time, last_poll, repeated)
            SELECT UNHEX(i.device_code), i.expires_at, i.interval_us, i.now, i.now, FALSE FROM JSON_TABLE(in_batch, '$[*]' COLUMNS (
                device_code CHAR(64) PATH '$.device_code', now BIGINT PATH '$.now',
                expires_at BIGINT PATH '$.expires_at', interval_us BIGINT PATH '$.interval_us')) i
            ON DUPLICATE KEY UPDATE
            interval_us = IF((@devicegrant_kind := CASE
                WHEN last_poll IS NULL THEN 'first'
                WHEN ABS(VALUES(last_poll) - last_poll) * 10 < LEAST(devicegrant_polls.interval_us, 2500000) AND NOT repeated THEN 'same'
                WHEN (VALUES(last_poll) - last_poll) * 10 <= -LEAST(devicegrant_polls.interval_us, 2500000) OR on_time IS NULL
                    OR (VALUES(last_poll) - on_time) * 5 >= devicegrant_polls.interval_us * 5 - LEAST(devicegrant_polls.interval_us, 5000000) THEN 'on time'
                ELSE 'early' END) = 'early',
                GREATEST(devicegrant_polls.interval_us, LEAST(devicegrant_polls.interval_us + 5000000, 60000000)), devicegrant_polls.interval_us),
            on_time = IF(@devicegrant_kind IN ('first', 'on time'), VALUES(last_poll), on_time),
            last_poll = IF(@devicegrant_kind = 'same', last_poll, VALUES(last_poll)),
            repeated = CASE @devicegrant_kind WHEN 'first' THEN repeated WHEN 'same' THEN TRUE ELSE FALSE END;
    END;
    IF recorded THEN
        SELECT g.device_code, g.id, g.state, g.expires_at, p.interval_us, p.on_time, p.last_poll, p.repeated
            FROM JSON_TABLE(in_batch, '$[*]' COLUMNS (device_code CHAR(64) PATH '$.device_code')) i
            STRAIGHT_JOIN devicegrant_grants g ON g.device_code = UNHEX(i.device_code)
            STRAIGHT_JOIN devicegrant_polls p ON p.device_code = g.device_code;
    END IF;
END//

-- Deletes up to in_limit grants that expired before in_before, with their polls, and
-- returns how many they were. A poll that was under way when its grant was purged
-- leaves an orphan, for the last batch to delete.
CREATE PROCEDURE IF NOT EXISTS devicegrant_purge(in_before BIGINT, in_limit BIGINT)
MODIFIES SQL DATA SQL SECURITY INVOKER
BEGIN
    DECLARE n BIGINT;
    DELETE p FROM devicegrant_polls p JOIN (
            SELECT device_code FROM devicegrant_grants WHERE expires_at < in_before
            ORDER BY expires_at, device_code LIMIT in_limit
        ) gone USING (device_code);
    DELETE FROM devicegrant_grants WHERE expires_at < in_before ORDER BY expires_at, device_code LIMIT in_limit;
    SET n = ROW_COUNT();
    IF n < in_limit THEN
        DELETE p FROM devicegrant_polls p JOIN (
                SELECT device_code FROM devicegrant_polls WHERE expires_at < in_before ORDER BY expires_at LIMIT in_limit
            ) oldest USING (device_code) LEFT JOIN devicegrant_grants g USING (device_code)
            WHERE g.device_code IS NULL;
    END IF;
    SELECT n;
END//

DELIMITER ;

INSERT IGNORE INTO devicegrant_schema (version) VALUES (1);
