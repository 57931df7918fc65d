#include "server/web_page.h"

namespace fathom {

#if !FATHOM_HAVE_WEB_PAGE
std::span<const Asset> WebPageAssets() { return {}; }
#endif

}  // namespace fathom
