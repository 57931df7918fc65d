// The program: everything is in cli/, so that tests can reach it.
#include <cstdio>

int main() {
  std::puts("fathom " FATHOM_VERSION);
  return 0;
}
