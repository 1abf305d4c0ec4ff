-- What the calls find: a handler, the steps of a saga, roles that are granted something, settings that some of the calls need.
CREATE EXTENSION pg_idempotent;
CREATE FUNCTION pay(request jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('paid', request -> 'amount') $$;
CREATE FUNCTION reserve(x jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('left', 9) $$;
SELECT name FROM idempotent_operation('fragile', on_lapse => 'unknown');
