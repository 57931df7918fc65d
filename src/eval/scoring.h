// How outputs are scored: small pure functions, each the published rule of a suite or a piece of one.
//
// Any bytes may come in (outputs are whatever a model wrote); nothing here allocates more than a few times its input.
// Thread-safe.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fathom {

/// Without white space at both ends.
std::string_view TrimSpace(std::string_view text);
std::string Lower(std::string_view text);  // ASCII letters only
/// The first line that has something in it, trimmed.
std::string_view FirstLine(std::string_view text);

/// The last number in a text: sign, thousands commas, a decimal point. "costs $1,250.50." gives 1250.5.
std::optional<double> LastNumber(std::string_view text);
/// The answer of a worked solution (Wei et al., arXiv 2201.11903: what follows "The answer is"): the first number after
/// the last "answer is" or "####", else the last number of the text.
std::optional<double> WorkedAnswer(std::string_view text);
/// Equal within rounding (1e-4 of the larger, at least 1e-6).
bool SameNumber(double a, double b);

/// BIG-Bench-Hard (Suzgun et al., arXiv 2210.09261): what follows the last "the answer is", to the end of its line,
/// without a closing full stop; the whole output, trimmed, where the words are not there.
std::string AnswerIs(std::string_view text);

/// LegalBench's normalisation: without ASCII punctuation, trimmed, lower case.
std::string NormalizeLegal(std::string_view text);

/// LawBench's multi_choice_judge: the right option occurs in the output and no other does.
bool OnlyOptionNamed(std::string_view output, std::span<const std::string> options, std::string_view right);
/// Numbers of articles in an answer such as "第二百六十四条、刑法第266条", in order: LawBench task 3-1. The first
/// number of each piece between 、 counts; what matches 第…款 is left out first, as published; Chinese numerals up to
/// 9999.
std::vector<int> ArticleNumbers(std::string_view text);
/// A whole number in Chinese numerals ("二百六十四", "一百零三", "三四一"); empty when it is none.
std::optional<int> ChineseNumber(std::string_view text);

/// F1 of two sets; 0 when they share nothing or one is empty.
double SetF1(std::vector<std::string> predicted, std::vector<std::string> gold);

/// ROUGE-L's F1 (Lin 2004, beta 1) over characters (code points): 2 LCS / (|a| + |b|). Quadratic in the texts' lengths,
/// of which at most 4000 characters count.
double RougeLCharacters(std::string_view output, std::string_view reference);

}  // namespace fathom
