# calls.json by way of ruby-pg, with the type maps that come with it.

require "json"
require "pg"
require "time"

class Calls
  def initialize(connection)
    @connection = connection
    connection.type_map_for_queries = PG::BasicTypeMapForQueries.new(connection)
    connection.type_map_for_results = PG::BasicTypeMapForResults.new(connection)
    @saved = {}
  end

  def play(transaction)
    answers = []
    failed = sqlstate = nil
    begin
      if transaction.key?("alone")
        answer(transaction["calls"], answers)
      else
        @connection.transaction { answer(transaction["calls"], answers) }
      end
    rescue PG::Error => error
      failed = error.message
      sqlstate = error.result&.error_field(PG::Result::PG_DIAG_SQLSTATE)
    end
    puts JSON.generate({ answers: answers, failed: failed, sqlstate: sqlstate })
  end

  private

  def answer(calls, answers)
    calls.each do |call|
      rows = @connection.exec_params(call["sql"], call["with"].map { |argument| value(*argument.first) }).values
      call.fetch("save", {}).each { |name, column| @saved[name] = rows[0][column] }
      answers << rows.map { |row| row.map { |cell| spelled(cell) } }
    end
  end

  # What a program would pass.
  def value(kind, given)
    return @saved[given.delete_prefix("@")] if given.is_a?(String) && given.start_with?("@")
    return nil if given.nil?

    case kind
    # A list would become an array of Postgres.
    when "json" then given.is_a?(Hash) ? given : JSON.generate(given)
    when "texts", "bigints" then given.map { |item| value(kind.delete_suffix("s"), item) }
    when "uuids" then PG::TextEncoder::Array.new.encode(given.map { |item| value("uuid", item) })
    when "timestamp" then given == "now" ? Time.now : Time.iso8601(given)
    when "bytes" then PG::BasicTypeMapForQueries::BinaryData.new([given].pack("H*"))
    else given
    end
  end

  def spelled(cell)
    case cell
    when Time then cell.iso8601
    when String then cell.encoding == Encoding::BINARY ? cell.unpack1("H*") : cell
    else cell
    end
  end
end

PG.connect do |connection|
  calls = Calls.new(connection)
  JSON.parse(File.read(ARGV[0], encoding: "UTF-8")).each { |transaction| calls.play(transaction) }
end
