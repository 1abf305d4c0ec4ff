#!/bin/sh
# A relay in a few lines: takes a batch from the database shop, delivers it to the database mail, and acknowledges. It may be
# killed anywhere. Ends when the outbox is empty.
tab=$(printf '\t')
ask() { psql -XAtq -F "$tab" -v ON_ERROR_STOP=1 -d "$@"; }

while [ "$(ask "$SHOP" -c 'SELECT count(*) FROM idempotent.outbox_message')" != 0 ]; do
    ask "$SHOP" -c "
        SELECT max(fence), array_agg(message_id),
               string_agg(format('SELECT receive(%L, %L)', message_id, payload), ';' ORDER BY n)
          FROM idempotent_outbox_take('orders', 20, '300 ms')
               WITH ORDINALITY AS t (message_id, fence, key, payload, attempt, put_at, lease_until, n)
        HAVING count(*) > 0" |
    while IFS="$tab" read -r fence ids deliveries; do
        ask "$MAIL" -c "$deliveries" >/dev/null &&
        ask "$SHOP" -c "SELECT idempotent_outbox_ack('orders', '$ids', $fence)" >/dev/null
    done
done
