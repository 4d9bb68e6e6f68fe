-- The alternative to loading through S3: Redshift itself reads the tape from Amazon MSK into a materialized view.
-- No migration: it is for those who choose it, and runs by hand once the three {...} below are filled in.
--
-- What it gives up: the tape's records come as Kafka holds them, so that a record written twice by a producer that was
-- stopped half-way through a transaction would be twice in here (streaming ingestion has no read_committed): the view
-- over it keeps one of each id. Records that are no JSON are skipped; windows, which Spark computes, and the ledger of
-- loads are not to be had this way. What it gains: seconds, and no Spark, no bucket.

CREATE EXTERNAL SCHEMA fulltape_tape
FROM KAFKA
IAM_ROLE '{arn:aws:iam::account:role/name}'
URI '{b-1.cluster.kafka.region.amazonaws.com:9098}'
AUTHENTICATION IAM;

-- As it arrived: typed, but nothing removed. Sorted by time; EVEN, as nothing is merged into it.
CREATE MATERIALIZED VIEW fulltape.tape_stream
DISTSTYLE EVEN
SORTKEY (kafka_timestamp)
AUTO REFRESH YES
AS
SELECT
    kafka_partition,
    kafka_offset,
    kafka_timestamp,
    JSON_PARSE(kafka_value) AS message
FROM fulltape_tape."{feed}.trades"  -- noqa: RF05
WHERE CAN_JSON_PARSE(kafka_value);

-- Each trade once, in the columns of fulltape.trades.
CREATE VIEW fulltape.trades_stream AS
SELECT
    product,
    trade_id,
    TIMESTAMP '1970-01-01 00:00:00' + time_us * INTERVAL '1 microsecond' AS traded_at,
    price,
    size,
    taker_side,
    sequence,
    TIMESTAMP '1970-01-01 00:00:00' + received_us * INTERVAL '1 microsecond' AS received_at,
    kafka_timestamp AS tape_at,
    source
FROM (
    SELECT
        CAST(message.product AS VARCHAR(32)) AS product,
        CAST(message.trade_id AS BIGINT) AS trade_id,
        CAST(message.time_us AS BIGINT) AS time_us,
        CAST(CAST(message.price AS VARCHAR(64)) AS DECIMAL(19, 10)) AS price,
        CAST(CAST(message.size AS VARCHAR(64)) AS DECIMAL(19, 8)) AS size,  -- noqa: RF04
        CAST(message.taker_side AS VARCHAR(4)) AS taker_side,
        CAST(message.sequence AS BIGINT) AS sequence,  -- noqa: RF04
        CAST(message.received_us AS BIGINT) AS received_us,
        CAST(message.source AS VARCHAR(16)) AS source,  -- noqa: RF04
        kafka_timestamp,
        ROW_NUMBER() OVER (
            PARTITION BY CAST(message.product AS VARCHAR(32)), CAST(message.trade_id AS BIGINT)
            ORDER BY kafka_offset
        ) AS place
    FROM fulltape.tape_stream
    WHERE CAST(message.type AS VARCHAR(16)) = 'trade'
) AS records
WHERE place = 1;
