// libpq's connections and results, owned; for tests and measurements.

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

// Owns a connection, whose notices are dropped: libpq prints those of servers that are killed.
inline Connection silenced(PGconn* connection) {
  PQsetNoticeProcessor(
      connection, [](void*, const char*) {}, nullptr);
  return Connection(connection);
}

// Silenced; null if there is none to be had.
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
