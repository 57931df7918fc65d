// The program: everything is in cli/, so that tests can reach it.
#include "cli/cli.h"

int main(int argc, char** argv) { return fathom::Main(argc, argv); }
