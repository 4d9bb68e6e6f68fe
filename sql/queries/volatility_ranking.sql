-- Which products are most volatile? By the mean of their windows' realized volatility, scaled to a year.
-- since: time = latest - 1h -- windows from this exchange time
-- until: time = latest -- to below this exchange time
-- product: text = % -- products, as LIKE has them
-- window_seconds: integer = 300 -- length of the windows
-- top: integer = 20 -- how many
SELECT
    product,
    100 * AVG(annualized_volatility) AS mean_percent_a_year,
    100 * MAX(annualized_volatility) AS most_percent_a_year,
    AVG(realized_volatility) AS mean_realized_volatility,
    MAX(drawdown) AS worst_drawdown,
    COUNT(*) AS windows
FROM fulltape.windows
WHERE
    window_start >= :since AND window_start < :until
    AND product LIKE :product
    AND window_seconds = :window_seconds
    AND realized_volatility IS NOT NULL
GROUP BY product
ORDER BY mean_percent_a_year DESC, product ASC
LIMIT :top
