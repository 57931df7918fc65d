#include "server/gunzip.h"

#include <boost/beast/zlib/inflate_stream.hpp>

namespace fathom {
namespace {

namespace zlib = boost::beast::zlib;

constexpr size_t kMostBytes = 64 << 20;

// Length of the gzip header, 0 when there is none.
size_t HeaderLength(std::string_view data) {
  constexpr unsigned char kHeaderCrc = 2, kExtra = 4, kName = 8, kComment = 16;
  const auto byte = [&](size_t at) { return static_cast<unsigned char>(data[at]); };
  if (data.size() < 18 || byte(0) != 0x1f || byte(1) != 0x8b || byte(2) != 8) return 0;
  const unsigned char flags = byte(3);
  size_t at = 10;
  if (flags & kExtra) at += 2u + byte(10) + (byte(11) << 8);
  for (const unsigned char text : {kName, kComment}) {
    if (!(flags & text)) continue;
    while (at < data.size() && data[at] != 0) ++at;
    ++at;
  }
  if (flags & kHeaderCrc) at += 2;
  return at + 8 < data.size() ? at : 0;
}

}  // namespace

bool AcceptsGzip(std::string_view accepted) {
  while (!accepted.empty()) {
    const size_t end = std::min(accepted.find(','), accepted.size());
    std::string_view one = accepted.substr(0, end);
    accepted.remove_prefix(std::min(end + 1, accepted.size()));
    const size_t semicolon = one.find(';');
    std::string_view name = one.substr(0, semicolon);
    while (name.starts_with(' ')) name.remove_prefix(1);
    while (name.ends_with(' ')) name.remove_suffix(1);
    if (name != "gzip" && name != "*" && name != "x-gzip") continue;
    const std::string_view quality = semicolon == std::string_view::npos ? "" : one.substr(semicolon + 1);
    const size_t q = quality.find("q=0");
    return q == std::string_view::npos || quality.find_first_of("123456789", q) != std::string_view::npos;
  }
  return false;
}

bool Gunzip(std::string_view compressed, std::string& out) {
  out.clear();
  const size_t header = HeaderLength(compressed);
  if (header == 0) return false;
  zlib::inflate_stream stream;
  zlib::z_params params;
  params.next_in = compressed.data() + header;
  params.avail_in = compressed.size() - header;  // with checksum and length behind it: the end is seen only with some to spare
  boost::system::error_code error;
  while (out.size() < kMostBytes) {
    const size_t before = out.size();
    out.resize(before + (64 << 10));
    params.next_out = out.data() + before;
    params.avail_out = out.size() - before;
    stream.write(params, zlib::Flush::sync, error);
    out.resize(out.size() - params.avail_out);
    if (error == zlib::error::end_of_stream) return true;
    if (error && error != zlib::error::need_buffers) return false;
    if (out.size() == before) return false;
  }
  return false;
}

}  // namespace fathom
