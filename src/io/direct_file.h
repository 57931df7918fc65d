// A file of fixed, preallocated size that is read and written at offsets, past the page cache where the file system can
// (O_DIRECT): what block stores are made of. Comes from Env::OpenDirect().
//
// Offsets, sizes and memory are multiples of kAlignment (kInvalidArgument otherwise). Positional, so concurrent calls on
// different ranges are fine. A write is durable after Sync().
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"

namespace fathom {

struct DirectOpenOptions {
  bool create = false;  // make it where it is missing, for its user alone (0600)
  bool direct = true;   // ask for O_DIRECT; where refused, the page cache is used and is_direct() says so
  bool random = false;  // where the page cache is used: it reads what is asked for and nothing ahead of it
};

class DirectFile {
 public:
  static constexpr int64_t kAlignment = 4096;

  virtual ~DirectFile() = default;
  /// All of `out`; kCorrupt when the file ends before.
  virtual Status Read(int64_t offset, std::span<std::byte> out) const = 0;
  virtual Status Write(int64_t offset, std::span<const std::byte> bytes) = 0;
  virtual Status Sync() = 0;
  /// Makes the file `bytes` long with its blocks reserved on the device. Errors: kResource (no space; nothing changes).
  virtual Status Allocate(int64_t bytes) = 0;
  /// Gives the range back to the file system; it reads as zeros afterwards. kUnsupported where the file system cannot.
  virtual Status PunchHole(int64_t offset, int64_t bytes) = 0;
  virtual Result<int64_t> Size() const = 0;
  virtual const std::string& path() const = 0;
  virtual bool is_direct() const = 0;
  /// For io_uring; -1: this file goes through Read() and Write() only (fault injection).
  virtual int descriptor() const = 0;
};

}  // namespace fathom
