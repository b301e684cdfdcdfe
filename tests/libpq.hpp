// Owners of libpq's connections and results, for tests and measurements.

#pragma once

#include <libpq-fe.h>

#include <memory>
#include <string>

struct Connection_Deleter {
  void operator()(PGconn* connection) const { PQfinish(connection); }
};
using Connection = std::unique_ptr<PGconn, Connection_Deleter>;

struct Result_Deleter {
  void operator()(PGresult* result) const { PQclear(result); }
};
using Result = std::unique_ptr<PGresult, Result_Deleter>;

// Owns a connection, and discards its notices. Otherwise libpq prints the notices of servers that
// are killed.
inline Connection silenced(PGconn* connection) {
  PQsetNoticeProcessor(
      connection, [](void*, const char*) {}, nullptr);
  return Connection(connection);
}

// Opens a connection and discards its notices. Null if it failed.
inline Connection open_connection(const std::string& conninfo) {
  Connection connection = silenced(PQconnectdb(conninfo.c_str()));
  if (PQstatus(connection.get()) != CONNECTION_OK) return nullptr;
  return connection;
}

// The rows of a statement; null if it failed.
inline Result query(const Connection& connection, const std::string& sql) {
  Result result(PQexec(connection.get(), sql.c_str()));
  if (PQresultStatus(result.get()) != PGRES_TUPLES_OK) return nullptr;
  return result;
}
