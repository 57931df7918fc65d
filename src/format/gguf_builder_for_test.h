// Builds GGUF bytes by hand, independently of the writer, so that tests can also write what is wrong.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace fathom::testing {

class Bytes {
 public:
  template <typename T>
  Bytes& Number(T value) {
    const auto* from = reinterpret_cast<const std::byte*>(&value);
    data_.insert(data_.end(), from, from + sizeof(T));
    return *this;
  }
  Bytes& Raw(std::string_view text) {
    const auto* from = reinterpret_cast<const std::byte*>(text.data());
    data_.insert(data_.end(), from, from + text.size());
    return *this;
  }
  Bytes& String(std::string_view text) { return Number<uint64_t>(text.size()).Raw(text); }
  Bytes& Pad(size_t alignment) {
    while (data_.size() % alignment != 0) data_.push_back(std::byte{0});
    return *this;
  }
  Bytes& Zeros(size_t count) {
    data_.resize(data_.size() + count);
    return *this;
  }
  const std::vector<std::byte>& data() const { return data_; }
  std::vector<std::byte>& data() { return data_; }
  std::span<const std::byte> span() const { return data_; }
  size_t size() const { return data_.size(); }

 private:
  std::vector<std::byte> data_;
};

/// A whole file: metadata as (key, type and value bytes), tensors as (name, ne, type, offset), then data.
class GgufBytes {
 public:
  uint32_t version = 3;
  uint64_t tensor_count_delta = 0, entry_count_delta = 0;  // added to the true counts
  size_t data_bytes = 0;                                   // of the data section, zeros
  size_t alignment = 32;

  template <typename T>
  GgufBytes& Scalar(std::string_view key, uint32_t type, T value) {
    entries_.String(key).Number(type).Number(value);
    ++entry_count_;
    return *this;
  }
  GgufBytes& U32(std::string_view key, uint32_t value) { return Scalar(key, 4, value); }
  GgufBytes& U64(std::string_view key, uint64_t value) { return Scalar(key, 10, value); }
  GgufBytes& F32(std::string_view key, float value) { return Scalar(key, 6, value); }
  GgufBytes& Bool(std::string_view key, uint8_t value) { return Scalar(key, 7, value); }
  GgufBytes& Text(std::string_view key, std::string_view value) {
    entries_.String(key).Number<uint32_t>(8).String(value);
    ++entry_count_;
    return *this;
  }
  GgufBytes& Texts(std::string_view key, const std::vector<std::string>& values) {
    entries_.String(key).Number<uint32_t>(9).Number<uint32_t>(8).Number<uint64_t>(values.size());
    for (const auto& value : values) entries_.String(value);
    ++entry_count_;
    return *this;
  }
  GgufBytes& I32s(std::string_view key, const std::vector<int32_t>& values) {
    entries_.String(key).Number<uint32_t>(9).Number<uint32_t>(5).Number<uint64_t>(values.size());
    for (int32_t value : values) entries_.Number(value);
    ++entry_count_;
    return *this;
  }
  /// `value` are the bytes after the key: type and payload.
  GgufBytes& RawEntry(std::string_view key, const Bytes& value) {
    entries_.String(key);
    entries_.data().insert(entries_.data().end(), value.data().begin(), value.data().end());
    ++entry_count_;
    return *this;
  }
  GgufBytes& Tensor(std::string_view name, const std::vector<uint64_t>& ne, uint32_t type, uint64_t offset) {
    tensors_.String(name).Number(static_cast<uint32_t>(ne.size()));
    for (uint64_t extent : ne) tensors_.Number(extent);
    tensors_.Number(type).Number(offset);
    ++tensor_count_;
    return *this;
  }
  /// The next F32 tensor after those before it; data_bytes grows along.
  GgufBytes& NextF32(std::string_view name, const std::vector<uint64_t>& ne) {
    uint64_t elements = 1;
    for (uint64_t extent : ne) elements *= extent;
    Tensor(name, ne, 0, data_bytes);
    data_bytes += elements * 4;
    data_bytes = (data_bytes + alignment - 1) / alignment * alignment;
    return *this;
  }

  std::vector<std::byte> Build() const {
    Bytes out;
    out.Raw("GGUF").Number(version).Number(tensor_count_ + tensor_count_delta).Number(entry_count_ + entry_count_delta);
    out.data().insert(out.data().end(), entries_.data().begin(), entries_.data().end());
    out.data().insert(out.data().end(), tensors_.data().begin(), tensors_.data().end());
    if (tensor_count_ > 0) out.Pad(alignment).Zeros(data_bytes);
    return out.data();
  }

 private:
  Bytes entries_, tensors_;
  uint64_t entry_count_ = 0, tensor_count_ = 0;
};

}  // namespace fathom::testing
