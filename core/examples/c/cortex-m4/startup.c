/* Reset of a Cortex-M4 with floating point: memory is set up, the unit is switched on, and main is
   called. Printing and the end go through semihosting, to the debugger or the emulator. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

extern char data_load[], data_start[], data_end[], bss_start[], bss_end[], stack_top[];
void initialise_monitor_handles(void);
int main(void);

void reset(void) {
  /* Full access to coprocessors 10 and 11. */
  *(volatile uint32_t *)0xe000ed88 |= 0xf << 20;
  __asm volatile("dsb\n isb" ::: "memory");
  memcpy(data_start, data_load, (size_t)(data_end - data_start));
  memset(bss_start, 0, (size_t)(bss_end - bss_start));
  initialise_monitor_handles();
  exit(main());
}

static void fault(void) { _Exit(2); }

__attribute__((section(".vectors"), used)) static void *const vectors[] = {
    stack_top,     (void *)reset, (void *)fault, (void *)fault,
    (void *)fault, (void *)fault, (void *)fault,
};
