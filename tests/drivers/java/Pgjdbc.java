// calls.json by way of pgjdbc.

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Array;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Types;
import java.time.OffsetDateTime;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.Map;
import java.util.UUID;

class Pgjdbc {
    private static final Gson GSON = new GsonBuilder().serializeNulls().create();
    private final Map<String, Object> saved = new HashMap<>();
    private final Connection connection;

    Pgjdbc(Connection connection) {
        this.connection = connection;
    }

    public static void main(String[] arguments) throws Exception {
        String url = "jdbc:postgresql://127.0.0.1:" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE");
        try (Connection connection = DriverManager.getConnection(url, System.getenv("PGUSER"), System.getenv("PGPASSWORD"))) {
            Pgjdbc pgjdbc = new Pgjdbc(connection);
            for (JsonElement transaction : JsonParser.parseString(Files.readString(Path.of(arguments[0]))).getAsJsonArray()) {
                pgjdbc.play(transaction.getAsJsonObject());
            }
        }
    }

    private void play(JsonObject transaction) throws SQLException {
        connection.setAutoCommit(transaction.has("alone"));
        JsonArray answers = new JsonArray();
        JsonObject told = new JsonObject();
        told.add("answers", answers);
        told.add("failed", JsonNull.INSTANCE);
        told.add("sqlstate", JsonNull.INSTANCE);
        try {
            for (JsonElement call : transaction.getAsJsonArray("calls")) {
                answers.add(answer(call.getAsJsonObject()));
            }
            if (!connection.getAutoCommit()) {
                connection.commit();
            }
        } catch (SQLException failure) {
            told.addProperty("failed", failure.getMessage());
            told.addProperty("sqlstate", failure.getSQLState());
            if (!connection.getAutoCommit()) {
                connection.rollback();
            }
        }
        System.out.println(GSON.toJson(told));
    }

    private JsonArray answer(JsonObject call) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(call.get("sql").getAsString().replaceAll("\\$\\d+", "?"))) {
            int at = 0;
            for (JsonElement argument : call.getAsJsonArray("with")) {
                Map.Entry<String, JsonElement> one = argument.getAsJsonObject().entrySet().iterator().next();
                pass(statement, ++at, one.getKey(), one.getValue());
            }
            JsonArray rows = new JsonArray();
            try (ResultSet found = statement.executeQuery()) {
                while (found.next()) {
                    rows.add(row(found, rows.isEmpty() && call.has("save") ? call.getAsJsonObject("save") : new JsonObject()));
                }
            }
            return rows;
        }
    }

    private JsonArray row(ResultSet found, JsonObject save) throws SQLException {
        JsonArray cells = new JsonArray();
        for (int at = 1; at <= found.getMetaData().getColumnCount(); at++) {
            cells.add(cell(found.getObject(at)));
        }
        for (Map.Entry<String, JsonElement> name : save.entrySet()) {
            saved.put(name.getKey(), found.getObject(name.getValue().getAsInt() + 1));
        }
        return cells;
    }

    private static JsonElement cell(Object found) throws SQLException {
        if (found instanceof byte[] bytes) {
            return GSON.toJsonTree(HexFormat.of().formatHex(bytes));
        }
        if (found instanceof Array array) {
            return GSON.toJsonTree(array.getArray());
        }
        boolean isPlain = found == null || found instanceof Number || found instanceof Boolean;
        return GSON.toJsonTree(isPlain ? found : found.toString());
    }

    /** As a program does it that has a value of this kind; the fence of an earlier answer is one. */
    private void pass(PreparedStatement statement, int at, String kind, JsonElement given) throws SQLException {
        switch (kind) {
            case "text" -> statement.setString(at, given.isJsonNull() ? null : given.getAsString());
            case "json" -> statement.setObject(at, given.isJsonNull() ? null : GSON.toJson(given), Types.OTHER);
            case "texts" -> statement.setArray(at, list("text", given));
            case "bigints" -> statement.setArray(at, list("bigint", given));
            case "uuids" -> statement.setArray(at, list("uuid", given));
            default -> statement.setObject(at, value(kind, given));
        }
    }

    private Array list(String type, JsonElement given) throws SQLException {
        Object[] items = new Object[given.getAsJsonArray().size()];
        for (int at = 0; at < items.length; at++) {
            items[at] = value(type, given.getAsJsonArray().get(at));
        }
        return connection.createArrayOf(type, items);
    }

    private Object value(String kind, JsonElement given) {
        if (given.isJsonNull()) {
            return null;
        }
        if (given.getAsJsonPrimitive().isString() && given.getAsString().startsWith("@")) {
            return saved.get(given.getAsString().substring(1));
        }
        return switch (kind) {
            case "integer" -> given.getAsInt();
            case "bigint" -> given.getAsLong();
            case "seconds" -> given.getAsDouble();
            case "boolean" -> given.getAsBoolean();
            case "uuid" -> UUID.fromString(given.getAsString());
            case "timestamp" -> given.getAsString().equals("now") ? OffsetDateTime.now() : OffsetDateTime.parse(given.getAsString());
            case "bytes" -> HexFormat.of().parseHex(given.getAsString());
            default -> given.getAsString();
        };
    }
}
