#include "engine/one_client.h"

#include "check.h"

/* One client is taken for each time that the socket is readable. */
static void test_turns(void) {
    ld_one_client_note(5, true);
    CHECK(!ld_one_client_refuse(5));
    ld_one_client_accepted(5, true);
    CHECK(ld_one_client_refuse(5));
    CHECK(!ld_one_client_refuse(5)); /* the next time */
    ld_one_client_accepted(5, true);
    ld_one_client_accepted(5, false); /* none waits */
    CHECK(!ld_one_client_refuse(5));
}

/* Other descriptors are left alone, also one that has the number of a common socket after it, and numbers that were never
 * noted. */
static void test_others(void) {
    static const int numbers[] = {-1, 0, 6, 1000000};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        ld_one_client_accepted(numbers[i], true);
        CHECK(!ld_one_client_refuse(numbers[i]));
    }
    ld_one_client_note(7, true);
    ld_one_client_accepted(7, true);
    ld_one_client_note(7, false);
    CHECK(!ld_one_client_refuse(7));
    ld_one_client_accepted(7, true);
    CHECK(!ld_one_client_refuse(7));
    ld_one_client_note(2000000, false); /* takes no memory */
    ld_one_client_note(500, true);
    ld_one_client_accepted(500, true);
    CHECK(ld_one_client_refuse(500));
    CHECK(!ld_one_client_refuse(499));
}

static const struct check_case cases[] = {
    {"one client is taken in a turn", test_turns},
    {"other descriptors are left alone", test_others},
};

CHECK_MAIN(cases)
