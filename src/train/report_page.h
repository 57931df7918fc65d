// The fixed parts of a run's report (report.cc): head, style and the script that draws. Constants.
#pragma once

#include <string_view>

namespace fathom {

extern const std::string_view kReportHead;    // up to the title
extern const std::string_view kReportStyle;   // style and the empty page
extern const std::string_view kReportScript;  // draws the JSON in the element "data"; to the end of the file

}  // namespace fathom
