-- Price bars of any length, with their volume. Bars of whole minutes are made of minutes, others of trades.
-- since: time = latest - 1h -- from this exchange time; of minutes those that begin then or later
-- until: time = latest -- to below this exchange time; of minutes those that begin before it
-- product: text = % -- products, as LIKE has them
-- interval_seconds: integer = 60 -- length of a bar; bars begin at its multiples since 1970
WITH pieces AS (
    SELECT
        product,
        minute_at AS piece_at,
        CAST(EXTRACT(EPOCH FROM minute_at) AS BIGINT) AS at_second,
        trades,
        volume,
        CAST(notional AS DOUBLE PRECISION) AS notional,
        first_id,
        last_id,
        open_price,
        high_price,
        low_price,
        close_price
    FROM fulltape.trade_minutes
    WHERE
        minute_at >= :since AND minute_at < :until
        AND product LIKE :product
        AND MOD(CAST(:interval_seconds AS BIGINT), 60) = 0
    UNION ALL
    SELECT
        product,
        DATE_TRUNC('second', traded_at) AS piece_at,
        CAST(EXTRACT(EPOCH FROM DATE_TRUNC('second', traded_at)) AS BIGINT) AS at_second,
        1 AS trades,
        size AS volume,
        CAST(price AS DOUBLE PRECISION) * CAST(size AS DOUBLE PRECISION) AS notional,
        trade_id AS first_id,
        trade_id AS last_id,
        price AS open_price,
        price AS high_price,
        price AS low_price,
        price AS close_price
    FROM fulltape.trades
    WHERE
        traded_at >= :since AND traded_at < :until
        AND product LIKE :product
        AND MOD(CAST(:interval_seconds AS BIGINT), 60) > 0
),

bars AS (
    SELECT
        product,
        at_second - MOD(at_second, CAST(:interval_seconds AS BIGINT)) AS bar_second,
        CAST(SUM(trades) AS BIGINT) AS trades,
        SUM(volume) AS volume,
        SUM(notional) AS notional,
        MIN(low_price) AS low_price,
        MAX(high_price) AS high_price,
        MIN(piece_at) AS first_at,
        MIN(at_second) AS first_second,
        MIN(first_id) AS first_id,
        MAX(last_id) AS last_id
    FROM pieces
    GROUP BY product, at_second - MOD(at_second, CAST(:interval_seconds AS BIGINT))
)

SELECT
    bars.product,
    bars.first_at - CAST(bars.first_second - bars.bar_second AS INTEGER) * INTERVAL '1 second' AS bar_at,
    firsts.open_price,
    bars.high_price,
    bars.low_price,
    lasts.close_price,
    bars.volume,
    bars.notional,
    bars.trades
FROM bars
INNER JOIN pieces AS firsts
    ON bars.product = firsts.product AND bars.first_id = firsts.first_id
INNER JOIN pieces AS lasts
    ON bars.product = lasts.product AND bars.last_id = lasts.last_id
ORDER BY bars.product ASC, bars.bar_second ASC
