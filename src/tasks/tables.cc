// Small tables of revenue and costs: profit of a row, total of a column, difference of two rows, the largest row, the
// total over rows that satisfy a condition.
#include <array>
#include <vector>

#include "tasks/draft.h"
#include "tasks/trace.h"
#include "tasks/words.h"

namespace fathom {
namespace {

constexpr std::array<std::array<std::string_view, 6>, 3> kLabels = {
    {{"January", "February", "March", "April", "May", "June"},
     {"North", "South", "East", "West", "Centre", "Coast"},
     {"Books", "Toys", "Food", "Shoes", "Tools", "Games"}}};
constexpr std::array<std::string_view, 3> kHeads = {"Month", "Region", "Product"};

struct Row {
  std::string name;
  int64_t revenue, costs;
};

struct Table {
  std::vector<Row> rows;
  std::string text;
};

/// Revenue above costs in every row; all values of a table have the same number of digits, and no two of a column are
/// equal.
Table MakeTable(Random& random, int64_t rows) {
  Table table;
  const size_t theme = static_cast<size_t>(random.Below(3));
  std::array<std::string_view, 6> names = kLabels[theme];
  if (theme == 0) {  // months stay in order
    const size_t first = static_cast<size_t>(random.Below(6 - rows + 1));
    for (size_t i = 0; i + first < names.size(); ++i) names[i] = kLabels[0][i + first];
  } else {
    random.Shuffle(names);
  }
  const bool small = random.Below(3) == 0;
  table.text = fmt::format("| {} | Revenue | Costs |", kHeads[theme]);
  while (static_cast<int64_t>(table.rows.size()) < rows) {
    Row row;
    row.name = names[table.rows.size()];
    row.costs = small ? random.In(10, 79) : random.In(100, 799);
    row.revenue = small ? random.In(row.costs + 1, 99) : random.In(row.costs + 10, 999);
    bool again = false;
    for (const Row& other : table.rows) again = again || other.revenue == row.revenue || other.costs == row.costs;
    if (again) continue;
    table.text += fmt::format("\n| {} | {} | {} |", row.name, row.revenue, row.costs);
    table.rows.push_back(std::move(row));
  }
  return table;
}

void Profit(Random& random, Draft& draft) {
  const Table table = MakeTable(random, random.In(3, 5));
  const Row& row = random.Pick(table.rows);
  draft.question =
      table.text + Say(random,
                       {"\nWhat is the profit of {0}?", "\nProfit is revenue minus costs. What is it for {0}?",
                        "\nHow much profit did {0} make?", "\nBy how much is revenue above costs for {0}?"},
                       row.name);
  Trace trace(draft.thinking);
  trace.Line("row {} {} {}", row.name, row.revenue, row.costs);
  draft.answer = std::to_string(trace.Subtract(row.revenue, row.costs));
}

void Total(Random& random, Draft& draft) {
  const Table table = MakeTable(random, random.In(3, 4));
  const bool revenue = random.Coin();
  draft.question = table.text + Say(random,
                                    {"\nWhat is the total of the {0}?", "\nAdd up the {0}.",
                                     "\nWhat is the sum of all {0}?", "\nWhat {1} the {0} of all rows together?"},
                                    revenue ? "revenue" : "costs", revenue ? "is" : "are");
  Trace trace(draft.thinking);
  std::vector<int64_t> values;
  std::vector<std::string> shown;
  for (const Row& row : table.rows) {
    values.push_back(revenue ? row.revenue : row.costs);
    shown.push_back(std::to_string(values.back()));
  }
  trace.Line("{}", JoinWith(shown, " "));
  draft.answer = std::to_string(trace.Add(values));
}

void Difference(Random& random, Draft& draft) {
  const Table table = MakeTable(random, random.In(3, 5));
  const bool revenue = random.Coin();
  const int64_t count = static_cast<int64_t>(table.rows.size()), first = random.Below(count);
  const Row* high = &table.rows[static_cast<size_t>(first)];
  const Row* low = &table.rows[static_cast<size_t>((first + random.In(1, count - 1)) % count)];
  const auto value = [&](const Row* row) { return revenue ? row->revenue : row->costs; };
  if (value(high) < value(low)) std::swap(high, low);
  draft.question = table.text + Say(random,
                                    {"\nHow much higher {3} the {2} of {0} than of {1}?",
                                     "\nWhat is the difference in {2} between {0} and {1}?",
                                     "\nBy how much {4} the {2} of {0} exceed {5} of {1}?",
                                     "\nCompare {0} with {1}: how much higher {3} the {2}?"},
                                    high->name, low->name, revenue ? "revenue" : "costs", revenue ? "is" : "are",
                                    revenue ? "does" : "do", revenue ? "that" : "those");
  Trace trace(draft.thinking);
  trace.Line("rows {} {} {} {}", high->name, value(high), low->name, value(low));
  draft.answer = std::to_string(trace.Subtract(value(high), value(low)));
}

void LargestRow(Random& random, Draft& draft) {
  const Table table = MakeTable(random, random.In(3, 5));
  const bool revenue = random.Coin(), largest = random.Below(3) != 0;
  draft.question =
      table.text + Say(random,
                       {"\nWhich row has the {0} {1}?", "\nWhere {2} the {1} {0}?", "\nWhich one has the {0} {1}?",
                        "\nFind the row with the {0} {1}."},
                       largest ? "highest" : "lowest", revenue ? "revenue" : "costs", revenue ? "is" : "are");
  Trace trace(draft.thinking);
  std::vector<std::string> values, shown;
  for (const Row& row : table.rows) {
    values.push_back(std::to_string(revenue ? row.revenue : row.costs));
    shown.push_back(row.name + " " + values.back());
  }
  trace.Line("rows {}", JoinWith(shown, " "));
  draft.answer = table.rows[trace.Best(values, largest)].name;
  draft.choices = static_cast<int>(table.rows.size());
}

void ConditionTotal(Random& random, Draft& draft) {
  const Table table = MakeTable(random, 3);
  const bool above = random.Coin(), on_revenue = random.Coin(), sum_revenue = random.Coin();
  const bool small = table.rows[0].revenue < 100;
  const auto tested = [&](const Row& row) { return on_revenue ? row.revenue : row.costs; };
  const auto summed = [&](const Row& row) { return sum_revenue ? row.revenue : row.costs; };
  const int64_t limit = small ? 10 * random.In(2, 9) : 50 * random.In(4, 19);
  int64_t chosen = 0;
  for (const Row& row : table.rows) {
    if (tested(row) == limit) return ConditionTotal(random, draft);
    chosen += (tested(row) > limit) == above ? 1 : 0;
  }
  if (chosen == 0 || (chosen == 3 && random.Below(3) != 0)) return ConditionTotal(random, draft);
  draft.question =
      table.text +
      Say(random,
          {"\nWhat {5} the total {2} of the rows whose {0} {3} {1} {4}?", "\nAdd up the {2} where {0} {3} {1} {4}.",
           "\nCount only rows with {0} {1} {4}. What is the sum of their {2}?"},
          on_revenue ? "revenue" : "costs", above ? "above" : "below", sum_revenue ? "revenue" : "costs",
          on_revenue ? "is" : "are", limit, sum_revenue ? "is" : "are");
  Trace trace(draft.thinking);
  std::vector<int64_t> values;
  for (const Row& row : table.rows) {
    const bool yes = (trace.Compare(std::to_string(tested(row)), std::to_string(limit)) > 0) == above;
    trace.Append(yes ? fmt::format(" yes {}", summed(row)) : " no");
    if (yes) values.push_back(summed(row));
  }
  draft.answer = std::to_string(trace.Add(values));
}

constexpr Kind kKinds[] = {{"profit", Profit},
                           {"total", Total},
                           {"difference", Difference},
                           {"largest_row", LargestRow},
                           {"condition_total", ConditionTotal}};

}  // namespace

std::span<const Kind> TableKinds() { return kKinds; }

}  // namespace fathom
