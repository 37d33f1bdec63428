#include "bench/gpu/bare/unistr.h"
