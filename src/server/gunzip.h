// The web page's files for clients that do not take gzip. Pure functions, thread-safe.
#pragma once

#include <string>
#include <string_view>

namespace fathom {

/// RFC 9110, section 12.5.3, as far as it concerns gzip: named, or "*", with a quality that is not 0.
bool AcceptsGzip(std::string_view accept_encoding);

/// RFC 1952. False when it is damaged or larger than 64 MiB.
bool Gunzip(std::string_view compressed, std::string& out);

}  // namespace fathom
